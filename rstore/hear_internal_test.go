package rstore

import (
	"bufio"
	"io"
	"net"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// A Sentinel that lets nobody listen is left: no connection to it stays behind, however often
// it is tried.
func TestASentinelThatRefusesIsLeft(t *testing.T) {
	t.Parallel()
	s, err := New(Config{URL: redistest.Start(t).URL()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	sentinel, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sentinel.Close() }()
	left := make(chan error, 1)
	go func() {
		conn, err := sentinel.Accept()
		if err != nil {
			left <- err
			return
		}
		defer func() { _ = conn.Close() }()
		asked := bufio.NewReader(conn)
		if _, err := asked.ReadString('\n'); err != nil {
			left <- err
			return
		}
		_, _ = io.WriteString(conn, "-NOPERM no\r\n")
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, err = io.Copy(io.Discard, asked)
		left <- err
	}()
	if err := s.hear(sentinel.Addr().String()); err == nil {
		t.Error("it is listened to")
	}
	if err := <-left; err != nil {
		t.Errorf("the connection is not closed: %v", err)
	}
}
