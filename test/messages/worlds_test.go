package messages_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"

	"github.com/idemproxy/idemproxy/estore"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/operation"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/seal"
	"github.com/idemproxy/idemproxy/upstream"
)

// setting is how a proxy is set up, as far as the laws have to know.
type setting struct {
	observe, async, bind, waits bool
	stream                      bool // and joins
	sources                     []string
	fingerprint                 []string
	maxResponse                 int
	maxBuffered                 int64
	cache                       int64 // of the embedded store; 0: the store is another one
	routes                      []shared
	hold, derive                bool
	codec                       idem.Codec
	receipts                    proxy.Receipts // nil: what is in doubt is released
}

// choice is a part of a setting.
type choice struct {
	name string
	put  func(*setting)
}

// chosen draws the parts of a setting, for a service to which most clients send one kind
// of body.
func chosen(r *rand.Rand, theme string) (all []choice) {
	take := func(percent int, some ...choice) {
		if r.IntN(100) < percent {
			all = append(all, oneOf(r, some...))
		}
	}
	take(60, keysFor(theme)...)
	take(60, fingerprintsFor(theme)...)
	take(20, choice{"observe", func(s *setting) { s.observe = true }})
	take(50, choice{"in_progress: wait", func(s *setting) { s.waits = true }})
	take(30, choice{"respond-async", func(s *setting) { s.async = true }})
	take(40, choice{"stream and join", func(s *setting) { s.stream = true }})
	take(30, choice{"bind to Authorization", func(s *setting) { s.bind = true }})
	take(40, choice{"max_response_body: 2 KiB", func(s *setting) { s.maxResponse = 2 << 10 }})
	take(40, choice{"max_buffered: 1 MiB", func(s *setting) { s.maxBuffered = 1 << 20 }})
	take(30, choice{"embedded, cache of 8 KiB", func(s *setting) { s.cache = 8 << 10 }})
	take(20, choice{"derive_key", func(s *setting) { s.derive, s.bind = true, true }})
	take(30, choice{"on_ambiguous: hold", func(s *setting) { s.hold = true }})
	take(40, choice{"compressed and encrypted at rest", func(s *setting) {
		s.codec, _ = seal.New(seal.Config{Keys: []seal.Key{{Name: "a", Secret: make([]byte, 32)}}, CompressFrom: 1})
	}})
	return all
}

func keysFor(theme string) []choice {
	of := func(list ...string) choice {
		return choice{fmt.Sprint("key: ", list), func(s *setting) { s.sources = list }}
	}
	own := map[string]string{
		"json": "json:/id", "form": "form:id", "multipart": "form:id", "graphql": "graphql:idempotent.key", "document": "graphql:idempotent.key",
	}[theme]
	if own == "" {
		return []choice{of("query:id"), of("header:Idempotency-Key")}
	}
	return []choice{of(own), of(own), of("header:Idempotency-Key", own), of(own, "query:id"), of("query:id"), of("form:id", "json:/id")}
}

func fingerprintsFor(theme string) []choice {
	of := func(parts ...string) choice {
		list := append([]string{"method", "target"}, parts...)
		return choice{fmt.Sprint("fingerprint: ", list), func(s *setting) { s.fingerprint = list }}
	}
	all := of("json", "form", "multipart")
	switch theme {
	case "json", "form", "multipart":
		return []choice{of(theme), of(theme), all}
	}
	return []choice{of("json"), of("multipart"), all}
}

func settingOf(all []choice) *setting {
	s := &setting{maxResponse: 1 << 20, maxBuffered: 256 << 20}
	for _, c := range all {
		c.put(s)
	}
	return s
}

// world is a proxy in front of a backend.
type world struct {
	*setting
	addr     string
	origin   *origin
	close    func()
	patience time.Duration // for an exchange

	mu    sync.Mutex
	local []string       // guarded by mu; what came from memory and is larger than what may be there
	done  map[string]int // guarded by mu; how many requests of a case have been answered
	sizes map[string]int // guarded by mu; of answers
}

func start(s *setting, patience time.Duration) (w *world, err error) {
	w = &world{setting: s, patience: patience, done: map[string]int{}, sizes: map[string]int{}}
	if w.origin, err = startOrigin(); err != nil {
		return nil, err
	}
	store, closeStore, err := s.store()
	if err != nil {
		return nil, err
	}
	engine := idem.NewEngine(idem.Config{Store: store})
	c, err := s.config()
	if err != nil {
		return nil, err
	}
	c.Engine, c.Upstream = engine, upstream.Config{Backends: []string{"http://" + w.origin.ln.Addr().String()}}
	c.Trace.Done = w.note
	server, err := proxy.New(c)
	if err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w.addr = ln.Addr().String()
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(proxy.Listen(ln, proxy.Listening{SendTimeout: time.Minute})) })
	w.close = func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience/4) // what stands still is known by then
		defer cancel()
		_ = server.Shutdown(ctx)
		serving.Wait()
		w.origin.close()
		engine.Close(ctx)
		closeStore()
	}
	return w, nil
}

func (s *setting) store() (idem.Store, func(), error) {
	if s.cache == 0 {
		return storetest.NewMemory(), func() {}, nil
	}
	dir, err := os.MkdirTemp("", "messages-")
	if err != nil {
		return nil, nil, err
	}
	store, err := estore.New(estore.Config{Dir: dir, CacheBytes: s.cache, Codec: s.codec})
	return store, func() {
		_ = store.Close()
		_ = os.RemoveAll(dir)
	}, err
}

func (s *setting) config() (c proxy.Config, err error) {
	c.Policy = idem.DefaultPolicy()
	c.Observe, c.RespondAsync, c.Stream, c.Join = s.observe, s.async, s.stream, s.stream
	c.Wait, c.StreamAbove, c.ReadOn, c.MaxWait = s.waits, 1<<10, time.Minute, patience/2
	c.MaxResponseBody, c.MaxBuffered = s.maxResponse, s.maxBuffered
	if s.bind {
		c.BindHeaders = []string{"Authorization"}
	}
	if s.derive {
		c.DeriveKey = time.Minute
	}
	if s.hold {
		c.Policy.OnAmbiguous = idem.AmbiguousHold
	}
	for i, r := range s.routes {
		c.Routes = append(c.Routes, r.route(i))
	}
	if s.receipts != nil {
		c.Receipts, c.SettleWithin, c.Policy.OnAmbiguous = s.receipts, settleWithin, idem.AmbiguousSettle
	}
	if c.Key, err = operation.ParseSources(s.sources); err != nil {
		return c, err
	}
	if len(s.fingerprint) > 0 {
		c.Fingerprint, err = operation.ParseFingerprint(s.fingerprint)
	}
	return c, err
}

// note is told of each request that has been dealt with.
func (w *world) note(r *proxy.Report) {
	id := string(r.RequestID)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done[id]++
	if size := w.sizes[id]; r.Outcome == proxy.ReplayedLocal && w.cache > 0 && int64(size) > w.cache {
		w.local = append(w.local, fmt.Sprintf("%s: %d bytes came from a memory of %d", id, size, w.cache))
	}
}
