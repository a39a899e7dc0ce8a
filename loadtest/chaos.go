package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/config"
)

// wire is a stretch of network that can be made to fail.
type wire struct {
	name  string
	proxy *toxiproxy.Proxy
}

// faults are what befalls a wire, in the form of Toxiproxy's API.
func faults() []string {
	return []string{
		`{"name":"f","type":"latency","stream":"downstream","attributes":{"latency":100,"jitter":50}}`,
		`{"name":"f","type":"limit_data","stream":"downstream","attributes":{"bytes":40}}`,
		`{"name":"f","type":"reset_peer","stream":"downstream","attributes":{"timeout":5}}`,
		`{"name":"f","type":"reset_peer","stream":"upstream","attributes":{"timeout":5}}`,
		`{"name":"f","type":"timeout","stream":"downstream","attributes":{"timeout":300}}`,
		`{"name":"f","type":"slicer","stream":"downstream","attributes":{"average_size":10,"delay":1000}}`,
	}
}

// addChaos puts wires between the proxy that is configured by c and its backend,
// and its Redis if it has one.
func (s *stage) addChaos(c *config.Config) error {
	addr, err := s.addWire("backend", strings.TrimPrefix(c.Backends[0], "http://"))
	if err != nil {
		return err
	}
	c.Backends = []string{"http://" + addr}
	if u, err := url.Parse(c.Store); err == nil && u.Scheme == "redis" {
		if u.Host, err = s.addWire("Redis", u.Host); err != nil {
			return err
		}
		c.Store = u.String()
	}
	return nil
}

func (s *stage) addWire(name, upstream string) (addr string, err error) {
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p := toxiproxy.NewProxy(server, name, "127.0.0.1:0", upstream)
	if err := p.Start(); err != nil {
		return "", fmt.Errorf("the wire to %s: %w", name, err)
	}
	s.wires = append(s.wires, &wire{name: name, proxy: p})
	return p.Listen, nil
}

// trouble makes the wires fail in turn until ctx ends, and leaves them whole. It
// returns how many faults there were.
func (s *stage) trouble(ctx context.Context) (n int) {
	for ctx.Err() == nil {
		w := s.wires[rand.IntN(len(s.wires))]       //nolint:gosec // not a secret
		fault := faults()[rand.IntN(len(faults()))] //nolint:gosec // not a secret
		if _, err := w.proxy.Toxics.AddToxicJson(strings.NewReader(fault)); err == nil {
			n++
			wait(ctx, 400*time.Millisecond)
			_ = w.proxy.Toxics.RemoveToxic(context.Background(), "f")
		}
		wait(ctx, 400*time.Millisecond)
	}
	return n
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
