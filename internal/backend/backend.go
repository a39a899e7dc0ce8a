// Package backend is the demo backend: it answers quickly, slowly, with any
// status or size, and counts what it executed per idempotency key, which is how
// one sees that nothing ran twice.
package backend

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// Backend counts executions. Use New.
type Backend struct {
	mu     sync.Mutex
	counts map[string]*Count // guarded by mu
	serial int               // guarded by mu
	total  Total             // guarded by mu
	ledger *ledger           // nil for none
}

// Total is what happened to all keys together; requests without a key are not
// in it.
type Total struct {
	Keys       int `json:"keys"`
	Executions int `json:"executions"` // started
	// Most is how often the key that executed most often did.
	Most int `json:"most"`
}

// Count is what happened to one key.
type Count struct {
	Key string `json:"key"`
	// Executions were carried out to their end.
	Executions int `json:"executions"`
	// Started counts those under way too.
	Started int `json:"started"`
}

// New is a backend that has executed nothing.
func New() *Backend { return &Backend{counts: make(map[string]*Count)} }

// maxKeys bounds the memory of a backend that is left running under load.
const maxKeys = 1 << 20

// Serve answers on ln until the listener is closed.
func (b *Backend) Serve(ln net.Listener) error {
	s := &fasthttp.Server{Handler: b.Handle, Name: "demo-backend", NoDefaultDate: true, CloseOnShutdown: true}
	if err := s.Serve(ln); err != nil {
		return fmt.Errorf("the demo backend: %w", err)
	}
	return nil
}

// Handle answers one request.
func (b *Backend) Handle(ctx *fasthttp.RequestCtx) {
	path := string(ctx.Path())
	switch path {
	case "/executions":
		answerJSON(ctx, b.Count(string(ctx.QueryArgs().Peek("key"))))
		return
	case "/receipts":
		if b.ledger != nil {
			b.ledger.endpoint(ctx)
			return
		}
	case "/did":
		b.did(ctx)
		return
	case "/total":
		total := b.Total()
		if ctx.QueryArgs().GetBool("reset") {
			b.Reset()
		}
		answerJSON(ctx, total)
		return
	}
	key := string(ctx.Request.Header.Peek("Idempotency-Key"))
	if key == "" {
		key = string(ctx.Request.Header.Peek("X-Idempotency-Key"))
	}
	key = strings.Trim(key, `"`)
	serial := b.start(key)
	if b.special(ctx, path, key) {
		return
	}
	for _, field := range ctx.QueryArgs().PeekMulti("set") {
		name, value, _ := strings.Cut(string(field), ":")
		ctx.Response.Header.Set(name, strings.TrimSpace(value))
	}
	if len(ctx.Response.Body()) == 0 && ctx.Response.StatusCode() != fasthttp.StatusNoContent {
		_, _ = fmt.Fprintf(ctx, "{\"charge\":\"ch_%06d\",\"method\":%q,\"path\":%q,\"bytes\":%d}\n",
			serial, ctx.Method(), path, len(ctx.Request.Body()))
	}
	if b.ledger == nil || key == "" || b.ledger.keep(ctx, key) {
		b.finish(key)
	}
}

// special answers the paths that do something else than charge. It says whether
// nothing more is to be done.
func (b *Backend) special(ctx *fasthttp.RequestCtx, path, key string) (done bool) {
	switch {
	case path == "/slow":
		b.slow(ctx)
	case strings.HasPrefix(path, "/status/"):
		status(ctx, path[len("/status/"):])
	case strings.HasPrefix(path, "/size/"):
		size(ctx, path[len("/size/"):])
	case path == "/events":
		return b.events(ctx, key)
	case path == "/cut":
		return b.cut(ctx, key)
	case path == "/packed":
		packed(ctx)
	case path == "/echo":
		ctx.SetContentType("text/plain")
		for name, value := range ctx.Request.Header.All() {
			_, _ = fmt.Fprintf(ctx, "%s: %s\n", name, value)
		}
	default:
		ctx.SetContentType("application/json")
	}
	return false
}

// cut breaks off the first request of a key, unanswered: before it was executed,
// or after that with ?executed=1. It says whether there is nothing more to do.
func (b *Backend) cut(ctx *fasthttp.RequestCtx, key string) bool {
	ctx.SetContentType("application/json")
	if b.Count(key).Started > 1 {
		return false
	}
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(func(c net.Conn) { _ = c.Close() })
	return !ctx.QueryArgs().GetBool("executed")
}

// did answers a resolver's question: what became of a key? 200 with the answer
// that it got or would have got, 404 if it was not executed.
func (b *Backend) did(ctx *fasthttp.RequestCtx) {
	key := string(ctx.QueryArgs().Peek("key"))
	if b.Count(key).Executions == 0 {
		ctx.SetStatusCode(fasthttp.StatusNotFound)
		return
	}
	ctx.SetContentType("application/json")
	_, _ = fmt.Fprintf(ctx, "{\"key\":%q,\"executed\":true}\n", key)
}

// packed answers with a content coding, whoever asks.
func packed(ctx *fasthttp.RequestCtx) {
	ctx.SetContentType("text/plain")
	ctx.Response.Header.SetContentEncoding("gzip")
	ctx.Response.Header.Set("Vary", "Accept-Encoding")
	ctx.SetBody(fasthttp.AppendGzipBytes(nil, []byte("unpacked\n")))
}

func (b *Backend) slow(ctx *fasthttp.RequestCtx) {
	d := 45 * time.Second
	if text := string(ctx.QueryArgs().Peek("d")); text != "" {
		var err error
		if d, err = time.ParseDuration(text); err != nil || d < 0 || d > time.Hour {
			ctx.Error("d wants a duration from 0 to 1h, such as 2s\n", fasthttp.StatusBadRequest)
			return
		}
	}
	ctx.SetContentType("application/json")
	time.Sleep(d)
}

func status(ctx *fasthttp.RequestCtx, text string) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 200 || n > 599 {
		ctx.Error("/status/N wants N from 200 to 599\n", fasthttp.StatusBadRequest)
		return
	}
	ctx.SetContentType("application/json")
	ctx.SetStatusCode(n)
}

// events sends ?n= server-sent events (3 unless it says), each ?d= after the one before
// (200ms); with ?cut= it breaks off after so many. It has executed when it has sent the last
// one.
func (b *Backend) events(ctx *fasthttp.RequestCtx, key string) (done bool) {
	args := ctx.QueryArgs()
	n, pause, most := args.GetUintOrZero("n"), 200*time.Millisecond, 10_000
	if d, err := time.ParseDuration(string(args.Peek("d"))); err == nil {
		pause = d
	}
	if n <= 0 || n > most {
		n = 3
	}
	cut := args.GetUintOrZero("cut")
	ctx.SetContentType("text/event-stream")
	from, to := io.Pipe()
	go func() {
		for i := range n {
			if i > 0 {
				time.Sleep(pause)
			}
			if i == cut && cut > 0 {
				_ = to.CloseWithError(errCut)
				return
			}
			if _, err := fmt.Fprintf(to, "id: %d\ndata: event %d of %d\n\n", i+1, i+1, n); err != nil {
				return
			}
		}
		b.finish(key)
		_ = to.Close()
	}()
	ctx.SetBodyStream(from, -1)
	return true
}

var errCut = errors.New("breaks off, as asked")

func size(ctx *fasthttp.RequestCtx, text string) {
	const most = 64 << 20
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		ctx.Error(fmt.Sprintf("/size/N wants N from 1 to %d\n", most), fasthttp.StatusBadRequest)
		return
	}
	ctx.SetContentType("text/plain")
	ctx.SetBodyString(strings.Repeat("x", n))
}

func answerJSON(ctx *fasthttp.RequestCtx, body any) {
	ctx.SetContentType("application/json")
	_ = json.NewEncoder(ctx).Encode(body)
}

// Reset forgets all keys.
func (b *Backend) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.counts)
	b.total = Total{}
}

// Total sums up.
func (b *Backend) Total() Total {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.total
}

// Count is what happened to key ("" for requests without one).
func (b *Backend) Count(key string) Count {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.counts[key]; c != nil {
		return *c
	}
	return Count{Key: key}
}

func (b *Backend) start(key string) (serial int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.counts[key]
	if c == nil {
		if len(b.counts) >= maxKeys {
			clear(b.counts)
		}
		c = &Count{Key: key}
		b.counts[key] = c
		if key != "" {
			b.total.Keys++
		}
	}
	c.Started++
	if key != "" {
		b.total.Executions++
		b.total.Most = max(b.total.Most, c.Started)
	}
	b.serial++
	return b.serial
}

func (b *Backend) finish(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.counts[key]; c != nil {
		c.Executions++
	}
}
