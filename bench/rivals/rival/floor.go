package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/redis/rueidis"
	"github.com/valyala/fasthttp"
)

// The floors are what a new key cannot cost less than: the bare proxy, and the two
// writes that there must be, one before the request goes to the backend and one before
// its client gets the answer. They look at nothing, protect nothing, and forget
// everything; what a store does beyond them is what its promises cost.

// claimed is about as long as the record of a key in progress.
const claimed = 128

// writes are a store's two.
type writes interface {
	claim(key []byte) error
	keep(key []byte, resp *fasthttp.Response) error
}

// floor is the bare proxy with a store's writes.
func floor(ln net.Listener, o options, w writes) error {
	client := &fasthttp.HostClient{Addr: o.backend, MaxConns: 4096, DisablePathNormalizing: true}
	s := &fasthttp.Server{NoDefaultDate: true, NoDefaultServerHeader: true, Handler: func(ctx *fasthttp.RequestCtx) {
		key := bytes.Clone(ctx.Request.Header.Peek("Idempotency-Key"))
		ctx.Request.Header.Del("Connection")
		err := w.claim(key)
		if err == nil {
			err = client.Do(&ctx.Request, &ctx.Response)
		}
		if err == nil {
			err = w.keep(key, &ctx.Response)
		}
		if err != nil {
			ctx.Error(err.Error(), fasthttp.StatusBadGateway)
			return
		}
		ctx.Response.Header.Del("Connection")
	}}
	return s.Serve(ln)
}

// twoSets are plain SETs through the client library that IdemProxy uses, as it is set
// up there: commands of all requests share one connection, and wait a moment for others.
type twoSets struct{ redis rueidis.Client }

func floorRedis(ln net.Listener, o options) error {
	client, err := onOneConnection(o)
	if err != nil {
		return err
	}
	return floor(ln, o, &twoSets{client})
}

func onOneConnection(o options) (rueidis.Client, error) {
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{o.redis}, DisableCache: true, ForceSingleClient: true, DisableRetry: true,
		PipelineMultiplex: -1, MaxFlushDelay: 20 * time.Microsecond,
	})
	if err != nil {
		return nil, fmt.Errorf("connecting to Redis: %w", err)
	}
	return client, nil
}

func (s *twoSets) claim(key []byte) error { return s.set(key, make([]byte, claimed), 30*time.Second) }

func (s *twoSets) keep(key []byte, resp *fasthttp.Response) error {
	return s.set(key, append(bytes.Clone(resp.Header.Header()), resp.Body()...), 24*time.Hour)
}

func (s *twoSets) set(key, value []byte, ttl time.Duration) error {
	cmd := s.redis.B().Set().Key(string(key)).Value(rueidis.BinaryString(value)).Px(ttl).Build()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return s.redis.Do(ctx, cmd).Error()
}

// appended is one preallocated file that is only ever appended to. Who has written waits
// for an fdatasync that began after that; all who wait share the next one.
type appended struct {
	file *os.File

	mu      sync.Mutex
	index   map[string]int64 // guarded by mu
	end     int64            // guarded by mu
	waiting *shared          // guarded by mu; the next fdatasync's
	wake    chan struct{}
}

// shared is one fdatasync.
type shared struct {
	done chan struct{}
	err  error // valid when it is done
}

// fileSize is more than a run appends. Writing beyond what was allocated would have each
// fdatasync write the file's size as well.
const fileSize = 4 << 30

func floorDisk(ln net.Listener, o options) error {
	file, err := os.CreateTemp(o.dir, "floor")
	if err != nil {
		return fmt.Errorf("the file: %w", err)
	}
	if err := errors.Join(os.Remove(file.Name()), syscall.Fallocate(int(file.Fd()), 0, 0, fileSize)); err != nil {
		return fmt.Errorf("the file: %w", err)
	}
	a := &appended{file: file, index: map[string]int64{}, waiting: newShared(), wake: make(chan struct{}, 1)}
	go a.sync()
	return floor(ln, o, a)
}

func newShared() *shared { return &shared{done: make(chan struct{})} }

func (a *appended) claim(key []byte) error { return a.add(key, make([]byte, claimed)) }

func (a *appended) keep(key []byte, resp *fasthttp.Response) error {
	return a.add(key, append(bytes.Clone(resp.Header.Header()), resp.Body()...))
}

func (a *appended) add(key, value []byte) error {
	a.mu.Lock()
	at := a.end % (fileSize - 1<<20) // a run that is longer than the file begins it anew
	a.end += int64(len(value))
	a.index[string(key)] = at
	_, err := a.file.WriteAt(value, at)
	next := a.waiting
	a.mu.Unlock()
	if err != nil {
		return fmt.Errorf("appending: %w", err)
	}
	select {
	case a.wake <- struct{}{}:
	default:
	}
	<-next.done
	return next.err
}

// sync runs as long as the process.
func (a *appended) sync() {
	for range a.wake {
		a.mu.Lock()
		now := a.waiting
		a.waiting = newShared()
		a.mu.Unlock()
		now.err = syscall.Fdatasync(int(a.file.Fd()))
		close(now.done)
	}
}
