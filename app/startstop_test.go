package app_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/app"
	"github.com/idemproxy/idemproxy/config"
)

// A signal that comes during the start ends the proxy: Run returns, without an error, and
// nobody can connect.
func TestStoppedDuringTheStart(t *testing.T) {
	t.Parallel()
	c := configOf(t, "http://127.0.0.1:1", func(c *config.Config) { c.DrainDelay = 0 })
	ctx, cancel := context.WithCancel(t.Context())
	a, err := app.New(c, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	addr := a.URL()[len("http://"):]
	cancel()
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it does not end")
	}
	if c, err := net.Dial("tcp", addr); err == nil {
		_ = c.Close()
		t.Error("a client can connect")
	}
}
