package proxy

import (
	"bytes"
	"io"
	"net"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// tunnels are the connections that have left HTTP (RFC 9110 section 7.8):
// WebSocket, say. Each keeps one connection of client and backend until either
// side ends it, or the server shuts down.
type tunnels struct {
	mu     sync.Mutex
	open   map[net.Conn]struct{} // guarded by mu; the clients' connections
	closed bool                  // guarded by mu
	moving sync.WaitGroup
}

// wantsUpgrade says whether the request asks to leave HTTP in a way that can be
// passed on: as RFC 9110 section 7.8 has it, without a key, which needs a
// response to keep, and without a body. h2c is not, since what came after it
// would get around every check of this proxy.
func (id *identity) wantsUpgrade(h *fasthttp.RequestHeader) bool {
	if len(id.upgrade) == 0 || id.keyed || id.derived || !h.IsHTTP11() {
		return false
	}
	n := h.ContentLength()
	return (n == 0 || n == -2) && listHas(id.nominated, []byte("Upgrade")) && !listHas(id.upgrade, []byte("h2c"))
}

// addUpgrade repeats the wish to the backend.
func (id *identity) addUpgrade(h *fasthttp.RequestHeader) {
	if id.upgrading {
		h.Add("Connection", "Upgrade")
		h.AddBytesV("Upgrade", id.upgrade)
	}
}

// handOver bounds the time from the end of the handler to the tunnel's start.
const handOver = time.Minute

// tunnel answers 101 as the backend did, and then moves bytes both ways.
func (s *Server) tunnel(ctx *fasthttp.RequestCtx, r *responseStream, protocol []byte) {
	h := &ctx.Response.Header
	h.Add("Connection", "Upgrade")
	h.AddBytesV("Upgrade", protocol)
	ctx.Response.SkipBody = true
	backend := r.conn
	if b := unwrap(backend.conn); b != nil {
		b.readTimeout, b.writeTimeout = 0, 0
		_ = b.SetDeadline(time.Time{})
	}
	// What came along with the 101 is the new protocol's.
	first, _ := r.reader.Peek(r.reader.Buffered())
	first = bytes.Clone(first)
	// A client that has left by now is never handed over.
	release := sync.OnceFunc(func() { backend.release(false) })
	abandoned := time.AfterFunc(handOver, release)
	client := ctx.Conn() // which a hijacked one, whose Close does nothing, reads ahead of
	ctx.Hijack(func(ahead net.Conn) {
		defer release()
		if abandoned.Stop() && s.tunnels.enter(client) {
			defer s.tunnels.leave(client)
			move(client, ahead, backend.conn, first)
		}
	})
	r.detach()
}

// detach gives back the reader, and leaves the connection to somebody else.
func (r *responseStream) detach() {
	r.client.ReleaseReader(r.reader)
	r.conn = nil
}

// move copies both ways until one side is broken, or both have ended. What comes
// from the client is read from ahead; first is what has come from the backend.
func move(client net.Conn, ahead io.Reader, backend net.Conn, first []byte) {
	var moving sync.WaitGroup
	copyOne := func(to net.Conn, from io.Reader) {
		_, err := io.Copy(to, from)
		if half, ok := halves(to); ok && err == nil && half.CloseWrite() == nil {
			return // the other direction may go on
		}
		_ = client.Close()
		_ = backend.Close()
	}
	moving.Go(func() { copyOne(backend, ahead) })
	copyOne(client, io.MultiReader(bytes.NewReader(first), backend))
	moving.Wait()
}

// halves is a connection of which one direction can end while the other goes on.
func halves(c net.Conn) (interface{ CloseWrite() error }, bool) {
	switch ours := c.(type) {
	case *backendConn:
		c = ours.Conn
	case *clientConn:
		c = ours.Conn
	}
	half, ok := c.(interface{ CloseWrite() error })
	return half, ok
}

func (t *tunnels) enter(client net.Conn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	if t.open == nil {
		t.open = map[net.Conn]struct{}{}
	}
	t.open[client] = struct{}{}
	t.moving.Add(1)
	return true
}

func (t *tunnels) leave(client net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, client)
	t.moving.Done()
}

// close ends all of them: a protocol that is not HTTP has no end that could be
// waited for.
func (t *tunnels) close() {
	t.mu.Lock()
	t.closed = true
	for c := range t.open {
		_ = c.Close()
	}
	t.mu.Unlock()
	t.moving.Wait()
}

// passInterim passes an interim response on to the client (RFC 9110 section
// 15.2), past the writer of the final one: see Config.EarlyHints for why that is
// safe. That a client has left is noticed elsewhere.
func passInterim(ctx *fasthttp.RequestCtx, h *fasthttp.ResponseHeader) {
	p := parsers.Get().(*headerParser) //nolint:forcetypeassert // see New
	defer parsers.Put(p)
	p.begin(h.StatusCode(), h.StatusMessage())
	for name, value := range h.All() {
		if !isHopByHop(name) && !equalFold(name, "Content-Length") {
			p.field(name, value)
		}
	}
	p.text = append(p.text, "\r\n"...)
	_, _ = ctx.Conn().Write(p.text)
}
