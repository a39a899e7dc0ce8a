package proxy_test

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
	"github.com/idemproxy/idemproxy/upstream"
)

// mute is a backend that takes connections and says nothing. Each request that it
// gets is told of.
func mute(t *testing.T) (origin string, asked <-chan struct{}) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	told := make(chan struct{}, 64)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				var some [1]byte
				if n, _ := c.Read(some[:]); n > 0 {
					told <- struct{}{}
				}
				_, _ = io.Copy(io.Discard, c)
				_ = c.Close()
			}()
		}
	}()
	return "http://" + ln.Addr().String(), told
}

// A reload, and a shutdown, do not wait for the answer to a health check.
func TestReloadDoesNotWaitForHealthChecks(t *testing.T) {
	t.Parallel()
	silent, asked := mute(t)
	var next proxy.Config
	r := newRig(t, backendtest.OK, func(c *proxy.Config) {
		next = *c
		c.Upstreams = []upstream.Config{{Name: "silent", Backends: []string{silent}, HealthPath: "/healthz", HealthInterval: time.Minute}}
	})
	<-asked
	done := make(chan error, 1)
	go func() { done <- r.server.Reload(next) }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the reload waits for a health check that has a minute")
	}
}
