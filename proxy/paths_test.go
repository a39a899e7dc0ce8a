package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/upstream"
)

// granting is a store that costs nothing: each key is free, and keeps what it is given
// for as long as the call lasts.
type granting struct{ idem.Store }

func (granting) Acquire(context.Context, idem.Claim) (idem.Outcome, error) {
	return idem.Outcome{Kind: idem.VerdictAcquired, Attempt: 1}, nil
}
func (granting) Complete(context.Context, idem.Lease, *idem.Response) error { return nil }

// pathTo is a way from a client to a backend whose responses have a size.
type pathTo struct {
	name  string
	size  int
	keyed bool
	ln    *fasthttputil.InmemoryListener
}

// paths are those through this proxy, and those through one that is fasthttp and
// nothing else. Client and backend are the same, and nothing leaves the process: the
// difference is what this proxy adds.
func paths(tb testing.TB) (all []pathTo) {
	tb.Helper()
	for _, size := range []int{60, 16 << 10, 256 << 10} {
		backend := answering(tb, bytes.Repeat([]byte("x"), size))
		ours := ourProxy(tb, backend)
		all = append(all,
			pathTo{"bare", size, false, bareProxy(tb, backend)},
			pathTo{"no key", size, false, ours},
			pathTo{"new key", size, true, ours})
	}
	return all
}

// BenchmarkPaths says what a request costs on each path. CPU time means more than
// time on a machine that others use too; it is client and backend included.
func BenchmarkPaths(b *testing.B) {
	for _, path := range paths(b) {
		b.Run(fmt.Sprintf("%s/%d", path.name, path.size), func(b *testing.B) {
			b.ReportAllocs()
			send := path.sender(b)
			send()
			before := used(b)
			for b.Loop() {
				send()
			}
			b.ReportMetric(float64(used(b)-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

// used is the CPU time of this process.
func used(tb testing.TB) int64 {
	tb.Helper()
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		tb.Fatal(err)
	}
	return r.Utime.Nano() + r.Stime.Nano()
}

// sender sends one request at each call.
func (p pathTo) sender(tb testing.TB) func() {
	tb.Helper()
	client := &fasthttp.HostClient{Addr: "proxy:80", Dial: func(string) (net.Conn, error) { return p.ln.Dial() }}
	req, resp := new(fasthttp.Request), new(fasthttp.Response)
	req.SetRequestURI("http://proxy/pay")
	req.Header.SetMethod(fasthttp.MethodPost)
	req.SetBodyString("amount=5")
	key, n := []byte(nil), int64(0)
	return func() {
		if n++; p.keyed {
			key = strconv.AppendInt(append(key[:0], "order-"...), n, 10)
			req.Header.SetBytesV("Idempotency-Key", key)
		}
		if err := client.Do(req, resp); err != nil || resp.StatusCode() != fasthttp.StatusCreated || len(resp.Body()) != p.size {
			tb.Fatal(resp.StatusCode(), len(resp.Body()), err)
		}
	}
}

// answering is a backend.
func answering(tb testing.TB, body []byte) *fasthttputil.InmemoryListener {
	tb.Helper()
	return serving(tb, &fasthttp.Server{Handler: func(ctx *fasthttp.RequestCtx) {
		ctx.SetStatusCode(fasthttp.StatusCreated)
		ctx.SetContentType("application/json")
		ctx.Response.SetBodyRaw(body)
	}})
}

func bareProxy(tb testing.TB, backend *fasthttputil.InmemoryListener) *fasthttputil.InmemoryListener {
	tb.Helper()
	client := &fasthttp.HostClient{
		Addr: "backend:80", DisablePathNormalizing: true, Dial: func(string) (net.Conn, error) { return backend.Dial() },
	}
	return serving(tb, &fasthttp.Server{NoDefaultServerHeader: true, Handler: func(ctx *fasthttp.RequestCtx) {
		ctx.Request.Header.Del("Connection")
		if err := client.Do(&ctx.Request, &ctx.Response); err != nil {
			ctx.Error(err.Error(), fasthttp.StatusBadGateway)
			return
		}
		ctx.Response.Header.Del("Connection")
	}})
}

func serving(tb testing.TB, s *fasthttp.Server) *fasthttputil.InmemoryListener {
	tb.Helper()
	ln := fasthttputil.NewInmemoryListener()
	go func() { _ = s.Serve(ln) }()
	tb.Cleanup(func() { _ = ln.Close() })
	return ln
}

func ourProxy(tb testing.TB, backend *fasthttputil.InmemoryListener) *fasthttputil.InmemoryListener {
	tb.Helper()
	engine := idem.NewEngine(idem.Config{Store: granting{}})
	s, err := proxy.New(proxy.Config{
		Engine: engine, Rules: proxy.Rules{Policy: idem.DefaultPolicy(), BindHeaders: []string{"Authorization"}},
		Upstream: upstream.Config{Backends: []string{"http://backend:80"}},
		Dial:     func(context.Context, string, string) (net.Conn, error) { return backend.Dial() },
	})
	if err != nil {
		tb.Fatal(err)
	}
	ln := fasthttputil.NewInmemoryListener()
	go func() { _ = s.Serve(proxy.Listen(ln, proxy.Listening{SendTimeout: time.Minute})) }()
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), idem.DefaultPolicy().TTL)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			tb.Error(err)
		}
		engine.Close(ctx)
	})
	return ln
}
