//go:build !otel

package app

import "github.com/rs/zerolog"

const canTrace = false

func newTracing(string, zerolog.Logger) (tracing, error) { return nil, errNoTracing }
