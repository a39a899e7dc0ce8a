package rstore

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"slices"
	"testing"
)

// One Sentinel is enough to begin with: it names the others, which are asked when it is gone.
func TestASentinelNamesTheOthers(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	defer func() { _ = theirs.Close() }()
	go func() { _, _ = io.Copy(io.Discard, theirs) }()
	go func() {
		_, _ = io.WriteString(theirs, "*2\r\n$8\r\n10.0.0.1\r\n$4\r\n6379\r\n"+
			"*3\r\n"+
			"*4\r\n$2\r\nip\r\n$8\r\n10.0.0.2\r\n$4\r\nport\r\n$5\r\n26379\r\n"+
			"*2\r\n$4\r\nname\r\n$7\r\nwithout\r\n"+
			"*4\r\n$2\r\nip\r\n$8\r\n10.0.0.3\r\n$4\r\nport\r\n$5\r\n26380\r\n")
	}()
	s := &sentinels{set: "it", addrs: []string{"10.0.0.9:26379"}, dial: func(context.Context, string, *tls.Config) (net.Conn, error) {
		return ours, nil
	}}
	addr, err := s.primary(t.Context())
	if err != nil || addr != "10.0.0.1:6379" {
		t.Errorf("the primary is %s, %v", addr, err)
	}
	if want := []string{"10.0.0.9:26379", "10.0.0.2:26379", "10.0.0.3:26380"}; !slices.Equal(s.addrs, want) {
		t.Errorf("the Sentinels are %v, want %v", s.addrs, want)
	}
}
