//go:build !race

package proxy

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/caller"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/message"
	"github.com/idemproxy/idemproxy/operation"
	"github.com/idemproxy/idemproxy/upstream"
)

// memoryStore is a store with one completed record, as the local caches hold it.
type memoryStore struct {
	idem.Store
	record idem.Record
}

func (s *memoryStore) Acquire(_ context.Context, c idem.Claim) (idem.Outcome, error) {
	_, out := s.record.Acquire(c, 1)
	out.Local = true
	return out, nil
}

// hotReplay is a server that can answer one request from memory, and that
// request.
func hotReplay(tb testing.TB) (*Server, *fasthttp.RequestCtx) {
	tb.Helper()
	key, err := idem.ParseKey("order-42")
	if err != nil {
		tb.Fatal(err)
	}
	raw := "POST /pay HTTP/1.1\r\nHost: X:80\r\nIdempotency-Key: order-42\r\nContent-Type: application/json; charset=utf-8\r\n" +
		"Content-Length: 0\r\n\r\n"
	ctx := &fasthttp.RequestCtx{}
	ctx.Init(&fasthttp.Request{}, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, nil)
	if err := readHeader(&ctx.Request.Header, raw); err != nil {
		tb.Fatal(err)
	}
	rules := Rules{BindHeaders: []string{"Authorization"}}
	print, _ := (&rules).made(ctx)
	store := &memoryStore{record: idem.Record{
		Key: key, State: idem.Completed, ReplayUntil: 1 << 40,
		Fingerprint: print, Recipe: operation.NewRecipe(nil, rules.BindHeaders, "", nil).ID,
		Response: &idem.Response{Status: 201, Body: make([]byte, 300), Header: []idem.Field{
			{Name: []byte("Content-Type"), Value: []byte("application/json")},
			{Name: []byte("Date"), Value: []byte("Mon, 02 Jan 2006 15:04:05 GMT")},
			{Name: []byte("X-Request-Id"), Value: []byte("abc")},
		}},
	}}
	engine := idem.NewEngine(idem.Config{Store: store})
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		engine.Close(ctx)
	})
	s, err := New(Config{
		Engine: engine, Rules: Rules{Policy: idem.DefaultPolicy(), BindHeaders: []string{"Authorization"}}, Upstream: upstream.Config{Backends: []string{"http://127.0.0.1:1"}},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return s, ctx
}

// made are the hashes that a server with these rules makes of a request without a
// body.
func (r *Rules) made(ctx *fasthttp.RequestCtx) (idem.Fingerprint, idem.Binding) {
	var head message.Head
	head.Read(&ctx.Request.Header)
	c := operation.NewRecipe(r.Fingerprint, r.BindHeaders, "", nil)
	by := c.Hashes(&operation.Asked{Head: &head, Host: head.Host(), Target: head.Target()}, caller.Digest{})
	return by.Fingerprint, by.Binding
}

// A hot replay allocates nothing: fasthttp reuses its buffers, and so do we.
func TestHotReplayAllocatesNothing(t *testing.T) {
	s, ctx := hotReplay(t)
	allocs := testing.AllocsPerRun(1000, func() {
		ctx.Response.Reset()
		s.handle(ctx)
	})
	if ctx.Response.StatusCode() != 201 || string(ctx.Response.Header.Peek(message.HeaderReplayed)) != "true" {
		t.Fatalf("answered %d %s", ctx.Response.StatusCode(), ctx.Response.Body())
	}
	if allocs != 0 {
		t.Errorf("%v allocations a replay", allocs)
	}
}

func BenchmarkHotReplayHandler(b *testing.B) {
	s, ctx := hotReplay(b)
	b.ReportAllocs()
	for b.Loop() {
		ctx.Response.Reset()
		s.handle(ctx)
	}
}

func BenchmarkIdentify(b *testing.B) {
	s, ctx := hotReplay(b)
	b.ReportAllocs()
	for b.Loop() {
		q := requests.Get().(*request) //nolint:forcetypeassert // see New
		q.ctx, q.live = ctx, s.live.Load()
		q.rules = q.live.routes.rest
		if err := q.identify(); err != nil || !q.keyed {
			b.Fatal(err)
		}
		q.release()
	}
}

func BenchmarkFingerprint(b *testing.B) {
	_, ctx := hotReplay(b)
	var head message.Head
	head.Read(&ctx.Request.Header)
	c := operation.NewRecipe(nil, nil, "", nil)
	q := operation.Asked{Head: &head, Host: []byte("x"), Target: []byte("/pay")}
	for _, size := range []int{300, 16 << 10, 256 << 10} {
		q.Body = make([]byte, size)
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				c.Hashes(&q, caller.Digest{})
			}
		})
	}
}
