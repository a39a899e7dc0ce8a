package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/proxy"
)

// tracing makes a span of each request. What makes them (OpenTelemetry's own
// library, and what that needs) is larger than the proxy, so it is in binaries
// that are built with -tags otel only: see otel.go.
type tracing interface {
	// forward begins the span of a request that is about to be forwarded, and
	// returns the traceparent that makes it the parent of the backend's.
	forward(r *proxy.Report) string
	// done ends it, or makes one of a request that was not forwarded.
	done(r *proxy.Report)
	// close sends what has not been sent.
	close(ctx context.Context)
}

// checkTracing is what is wrong before anything is started.
func checkTracing(c *config.Config) error {
	if c.OTLP != "" && !canTrace {
		return c.At(nil, "otlp", errNoTracing)
	}
	return nil
}

var errNoTracing = errors.New("this binary cannot send spans: build one with `go build -tags otel ./cmd/proxy`")

func (a *App) startTracing(c *config.Config) error {
	if err := checkTracing(c); err != nil || c.OTLP == "" {
		return err
	}
	t, err := newTracing(c.OTLP, a.log)
	if err != nil {
		return c.At(nil, "otlp", fmt.Errorf("spans: %w", err))
	}
	a.tracing = t
	return nil
}
