package rstore

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/redis/rueidis"
)

// A Sentinel that lets nobody listen is left at once, for the reason that it gives: no connection
// to it stays behind, however often it is tried.
func TestASentinelThatRefusesIsLeft(t *testing.T) {
	t.Parallel()
	ours, sentinels := net.Pipe()
	defer func() { _ = sentinels.Close() }()
	go func() { _, _ = io.Copy(io.Discard, sentinels) }()
	go func() { _, _ = io.WriteString(sentinels, "-NOPERM no\r\n") }()
	s := &Store{timeout: 10 * time.Second, closing: t.Context(), option: rueidis.ClientOption{
		DialCtxFn: func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error) { return ours, nil },
	}}
	var refused refusal
	if err := s.hear("sentinel:26379"); !errors.As(err, &refused) {
		t.Errorf("it is listened to: %v", err)
	}
	if _, err := ours.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the connection is not closed: %v", err)
	}
}
