package proxy_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// timed is a store that says how long the latest Acquire took.
type timed struct {
	idem.Store
	took atomic.Int64
}

// Acquire implements idem.Store.
func (s *timed) Acquire(ctx context.Context, c idem.Claim) (idem.Outcome, error) {
	begun := time.Now()
	defer func() { s.took.Store(int64(time.Since(begun))) }()
	return s.Store.Acquire(ctx, c)
}

// ways are the requests that BenchmarkFirstByte compares: without a key, with one, and with
// one on a route that does not stream.
type ways struct{ url string }

func (w ways) all() []string { return []string{"keyless", "streamed", "buffered"} }

func (w ways) path(way string) string {
	if way == "buffered" {
		return w.url + "/"
	}
	return w.url + "/streams"
}

// header is where the key is: one without a key is as long.
func (w ways) header(way string) string {
	if way == "keyless" {
		return "Not-Idempotency"
	}
	return "Idempotency-Key"
}

// BenchmarkFirstByte compares the time to the first byte of a stream with a key with that
// of one without, over one proxy, in an order that changes by chance. The backend sends the
// rest only when the client has that byte: nobody sleeps, so the ratio hardly depends on what
// else the machine does. The store is in memory, so it is what the proxy adds; a store adds
// what its Acquire takes, which must come before anything is forwarded. ratio is of the
// medians, besides-acquire is what it is without Acquire, and buffered what it is where the
// route does not stream. Every key is new, and the backend counts.
func BenchmarkFirstByte(b *testing.B) {
	goOn := make(chan struct{}, 1)
	backend := backendtest.Start(b, func(c backendtest.Conn, _ *backendtest.Request) {
		c.Raw("HTTP/1.1 200 OK\r\n" + eventStream + "\r\n\r\n9\r\ndata: a\n\n\r\n")
		<-goOn
		c.Raw("9\r\ndata: b\n\n\r\n0\r\n\r\n")
	})
	store := &timed{Store: storetest.NewMemory()}
	w := ways{url: firstByteProxy(b, store, backend.URL())}
	order, took, sent := w.all(), map[string][]time.Duration{}, 0
	for b.Loop() {
		rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, way := range order {
			sent++
			if way == "buffered" {
				goOn <- struct{}{}
			}
			took[way] = append(took[way], firstByte(b, w.path(way), w.header(way), fmt.Sprint("key-", sent), func() {
				if way != "buffered" {
					goOn <- struct{}{}
				}
			}))
			if way == "streamed" {
				took["acquire"] = append(took["acquire"], time.Duration(store.took.Load()))
			}
		}
	}
	if n := backend.Total(); n != sent {
		b.Errorf("%d executions of %d requests", n, sent)
	}
	keyless, acquire := median(took["keyless"]), median(took["acquire"])
	b.ReportMetric(median(took["streamed"])/keyless, "ratio")
	b.ReportMetric((median(took["streamed"])-acquire)/keyless, "besides-acquire")
	b.ReportMetric(median(took["buffered"])/keyless, "buffered")
	b.ReportMetric(keyless/1000, "µs-keyless")
	b.ReportMetric(acquire/1000, "µs-acquire")
}

// firstByteProxy runs a proxy that streams below /streams, and is its URL.
func firstByteProxy(b *testing.B, store idem.Store, backend string) string {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	c := proxy.Config{Engine: idem.NewEngine(idem.Config{Store: store})}
	c.Policy = idem.DefaultPolicy()
	c.Upstream.Backends = []string{backend}
	streams := c.Rules
	streams.Stream, streams.ReadOn = true, time.Minute
	c.Routes = []proxy.Route{{Name: "streams", Match: proxy.Match{Path: "/streams"}, Rules: streams}}
	s, err := proxy.New(c)
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = s.Serve(proxy.Listen(ln, proxy.Listening{SendTimeout: time.Minute})) }()
	b.Cleanup(func() {
		_ = s.Shutdown(context.Background())
		c.Engine.Close(context.Background())
	})
	return "http://" + ln.Addr().String()
}

// firstByte is how long it takes to come; has is called then.
func firstByte(b *testing.B, url, header, key string, has func()) time.Duration {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, url, strings.NewReader("x"))
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set(header, key)
	begun := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil {
		b.Fatal(err)
	}
	first := time.Since(begun)
	has()
	if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != "ata: a\n\ndata: b\n\n" {
		b.Fatalf("%q, %v", rest, err)
	}
	return first
}

func median(all []time.Duration) float64 {
	slices.Sort(all)
	return float64(all[len(all)/2])
}
