// Package toxitest runs Toxiproxy inside a test: the network between two
// processes, to be cut, slowed and held as the test likes.
package toxitest

import (
	"context"
	"strings"
	"testing"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// Link is one stretch of network, listening on Addr.
type Link struct {
	Addr string

	tb    testing.TB
	proxy *toxiproxy.Proxy
}

// New links a free port of loopback to upstream until the test ends.
func New(tb testing.TB, upstream string) *Link {
	tb.Helper()
	logger := zerolog.Nop()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), logger)
	proxy := toxiproxy.NewProxy(server, tb.Name(), "127.0.0.1:0", upstream)
	if err := proxy.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(proxy.Stop)
	return &Link{Addr: proxy.Listen, tb: tb, proxy: proxy}
}

// Cut breaks every connection and refuses new ones until mend is called.
func (l *Link) Cut() (mend func()) {
	l.proxy.Stop()
	return func() {
		l.tb.Helper()
		if err := l.proxy.Start(); err != nil {
			l.tb.Error(err)
		}
	}
}

// Add puts a toxic on the link, as Toxiproxy's API would: name is free, kind one
// of Toxiproxy's (latency, limit_data, timeout, reset_peer, ...), attributes as
// documented there, in JSON.
func (l *Link) Add(name, kind, stream, attributes string) (remove func()) {
	l.tb.Helper()
	body := `{"name":"` + name + `","type":"` + kind + `","stream":"` + stream + `","attributes":` + attributes + `}`
	if _, err := l.proxy.Toxics.AddToxicJson(strings.NewReader(body)); err != nil {
		l.tb.Fatal(err)
	}
	return func() {
		l.tb.Helper()
		if err := l.proxy.Toxics.RemoveToxic(context.Background(), name); err != nil {
			l.tb.Error(err)
		}
	}
}
