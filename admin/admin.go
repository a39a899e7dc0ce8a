// Package admin is the operator's listener: health, and whatever handlers app
// hangs in (metrics). It is net/http, apart from the traffic that it watches.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"sync/atomic"
	"time"
)

// Config says what the listener serves.
type Config struct {
	// Metrics answers /metrics.
	Metrics http.Handler
	// Ready answers /readyz: about the whole proxy, or about one upstream only, which may
	// be ErrNoUpstream.
	Ready func(ctx context.Context, upstream *string) (Readiness, error)
	// ReadyRequires are the names of the checks that must hold for the whole proxy to be
	// ready; nil: none must, while something is served.
	ReadyRequires func() []string
	// Keys is the operator's side of the store.
	Keys *Keys
	// Events are shown live; nil: none are.
	Events *Events
	// Recent are the last requests, for /requests; nil: none are kept.
	Recent *Recent
	// History is what the process did lately, for /history; nil: nothing is kept.
	History *History
	// Status is what /status shows; nil: nothing.
	Status func() (any, error)
	// Backup writes a backup of the store to w; nil: the store has others.
	Backup func(ctx context.Context, remote string, w io.Writer) error
	// Advice is what /advice answers; nil: nothing.
	Advice func() (any, error)
	// Settings are those in force, as YAML without secrets: all, or those that differ from
	// the defaults; nil: they are not shown.
	Settings func(which SettingsWanted) (string, error)
	// Token, if set, is what keys and profiles are shown for, to anybody who has
	// it; without one they are for this machine only. Health and metrics are for
	// everybody.
	Token []byte
	// CheckTimeout bounds Ready. Default 3 s.
	CheckTimeout time.Duration
}

// SettingsWanted is which settings are asked for.
type SettingsWanted int

// Which settings there are.
const (
	AllSettings     SettingsWanted = iota
	ChangedSettings                // those that differ from the defaults
)

// Server is the admin listener's server.
type Server struct {
	config   Config
	started  time.Time
	draining atomic.Bool
	amiss    amissSince
	http     *http.Server
}

// New makes a server; it starts with Serve.
func New(c Config) *Server {
	if c.CheckTimeout <= 0 {
		c.CheckTimeout = 3 * time.Second
	}
	s := &Server{config: c, started: time.Now()}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", c.Metrics)
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	// Profiles, by the toolchain's own handlers; not by pprof's init, which would
	// put them into everybody's default mux.
	mux.HandleFunc("GET /debug/pprof/", s.protected(pprof.Index))
	mux.HandleFunc("GET /debug/pprof/profile", s.protected(pprof.Profile))
	mux.HandleFunc("GET /debug/pprof/trace", s.protected(pprof.Trace))
	if c.Keys != nil {
		c.Keys.register(mux, s.protected)
	}
	if c.Events != nil {
		mux.HandleFunc("GET /events", s.protected(c.Events.serve))
	}
	if c.Recent != nil {
		mux.HandleFunc("GET /requests", s.protected(c.Recent.serve))
	}
	if c.History != nil {
		mux.HandleFunc("GET /history", s.protected(s.history))
	}
	mux.HandleFunc("GET /status", s.protected(s.status))
	mux.HandleFunc("POST /backup", s.protected(s.backup))
	mux.HandleFunc("GET /advice", s.protected(s.advice))
	mux.HandleFunc("GET /settings", s.protected(s.settings))
	s.registerPage(mux)
	s.http = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	return s
}

// Serve answers on ln until Close.
func (s *Server) Serve(ln net.Listener) error {
	if err := s.http.Serve(ln); err != nil && err != http.ErrServerClosed {
		return fmt.Errorf("the admin listener: %w", err)
	}
	return nil
}

// Drain makes /readyz say 503 from now on.
func (s *Server) Drain() { s.draining.Store(true) }

// Close ends it at once.
func (s *Server) Close() error { return s.http.Close() } //nolint:wrapcheck // nothing to add

// healthz says that the process is alive, which it shows by answering.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, map[string]any{"status": "alive"})
}

// status shows what the proxy counts and is connected to.
func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	answerOf(w, s.config.Status)
}

// advice proposes settings.
func (s *Server) advice(w http.ResponseWriter, _ *http.Request) {
	answerOf(w, s.config.Advice)
}

// answerOf answers what f says; nil: there is nothing to show.
func answerOf(w http.ResponseWriter, f func() (any, error)) {
	if f == nil {
		refuse(w, http.StatusNotFound, errors.New("there is nothing to show"))
		return
	}
	body, err := f()
	if err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	answer(w, http.StatusOK, body)
}

// settings shows those in force.
func (s *Server) settings(w http.ResponseWriter, r *http.Request) {
	if s.config.Settings == nil {
		refuse(w, http.StatusNotFound, errors.New("there are no settings to show"))
		return
	}
	which := AllSettings
	switch only := r.URL.Query().Get("only"); only {
	case "":
	case "changed":
		which = ChangedSettings
	default:
		refuse(w, http.StatusBadRequest, fmt.Errorf("only %q: want changed, or nothing for all settings", only))
		return
	}
	text, err := s.config.Settings(which)
	if err != nil {
		refuse(w, http.StatusInternalServerError, err)
		return
	}
	w.Header().Set("Content-Type", "application/yaml")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = io.WriteString(w, text) // the client left, or nothing
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client left, or nothing
}
