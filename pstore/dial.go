package pstore

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// handshakeAtMost bounds the time of a connect, TLS and authentication included, unless
// the URL says connect_timeout. It is longer than a call waits: connecting goes on when
// the call that needed the connection has failed, and the next call uses it. A server that
// is busy with the connections of a whole fleet, as after a failover, would otherwise never
// finish one of them in time.
const handshakeAtMost = 5 * time.Second

// connectingAtMost is how many connections a pool makes at once. Each costs the server a
// process and the proof of a password.
const connectingAtMost = 4

// turns are those of connects. One of them is brief: who has it gives a host up after the
// time of a call. All others may hang, in a network that has forgotten them, for as long as
// handshakeAtMost: meanwhile the server can be well again, and the brief turn finds that out.
type turns struct{ long, brief chan struct{} }

func newTurns() *turns {
	return &turns{long: make(chan struct{}, connectingAtMost-1), brief: make(chan struct{}, 1)}
}

// take waits for a turn, which is given back by a receive. It is nil if ctx ended before.
func (t *turns) take(ctx context.Context) (turn chan struct{}) {
	select {
	case t.long <- struct{}{}: // rather than the brief one
		return t.long
	default:
	}
	select {
	case t.long <- struct{}{}:
		return t.long
	case t.brief <- struct{}{}:
		return t.brief
	case <-ctx.Done():
		return nil
	}
}

var (
	// errSilent is of a host that is left out: see dialer.
	errSilent = errors.New("not dialed: it did not answer the last time")
	// errMute is of a host that does not answer, where it would be dialed without TLS.
	errMute = errors.New("not dialed again: it did not answer")
)

// dialer makes the connections of a Store: it is their DialFunc, and the tracer that pgx tells
// of the begin and of the end of each connect. It is safe for concurrent use.
//
// In a connect pgx tries one host after the other. A host that is down answers nothing, and
// each connection would wait for it before it comes to the host that works: in that time
// every call fails. So the hosts that did not answer while another one did are left out,
// until a connect fails. It is made once more then (see passing): a host that was left out
// may have become the primary.
type dialer struct {
	dial    pgconn.DialFunc // pgx's
	closing context.Context // ends all connects
	atMost  time.Duration   // for a host that does not even answer that it is there
	turns   *turns          // nil: it waits for no others
	silent  *silentHosts
}

func newDialer(closing context.Context, conn *pgx.ConnConfig, timeout time.Duration) *dialer {
	return &dialer{
		dial: conn.DialFunc, closing: closing, atMost: min(timeout, conn.ConnectTimeout), turns: newTurns(),
		silent: &silentHosts{addrs: map[string]bool{}},
	}
}

// attach has d make what is connected with conn.
func (d *dialer) attach(conn *pgx.ConnConfig) { conn.DialFunc, conn.Tracer = d.Dial, d }

// alone is d for a connect that waits for no others.
func (d *dialer) alone() *dialer {
	other := *d
	other.turns = nil
	return &other
}

// dialing is one connect, of which one goroutine knows.
type dialing struct {
	cancel func()
	turn   chan struct{}
	brief  bool
	addr   string    // dialed last
	since  time.Time // for the first time
	late   []string  // the addresses that had time enough
	cut    bool      // one of them might have answered if the turn were not brief
}

// dialingKey is the key of a context's value: the *dialing that it is of.
type dialingKey struct{}

// TraceConnectStart implements pgx.ConnectTracer: it waits until few others are connecting.
func (d *dialer) TraceConnectStart(ctx context.Context, _ pgx.TraceConnectStartData) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(d.closing, cancel)
	c := &dialing{cancel: func() { stop(); cancel() }}
	if d.turns != nil {
		c.turn = d.turns.take(ctx)
		c.brief = c.turn != nil && c.turn == d.turns.brief
	}
	return context.WithValue(ctx, dialingKey{}, c)
}

// TraceConnectEnd implements pgx.ConnectTracer.
func (d *dialer) TraceConnectEnd(ctx context.Context, data pgx.TraceConnectEndData) {
	c, ok := ctx.Value(dialingKey{}).(*dialing)
	if !ok {
		return
	}
	if data.Err == nil {
		d.silent.add(c.late)
		if c.brief {
			_ = data.Conn.PgConn().Conn().SetDeadline(time.Time{})
		}
	} else if c.leave(d.atMost); !c.cut {
		d.silent.clear()
	}
	c.cancel()
	if c.turn != nil {
		<-c.turn
	}
}

// TraceQueryStart implements pgx.QueryTracer, which a tracer must.
func (d *dialer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

// TraceQueryEnd likewise.
func (d *dialer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// Dial is pgx's DialFunc.
func (d *dialer) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	end := time.Now().Add(d.atMost)
	c, connects := ctx.Value(dialingKey{}).(*dialing)
	if connects {
		c.come(addr, d.atMost)
		switch {
		case slices.Contains(c.late, addr):
			return nil, errMute
		case d.silent.has(addr):
			return nil, errSilent
		}
	}
	dialing, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	conn, err := d.dial(dialing, network, addr)
	switch {
	case err != nil && connects && c.slow(d.atMost):
		c.late = append(c.late, addr)
	case err == nil && !connects: // to cancel a statement, which is not to take longer either
		_ = conn.SetDeadline(end)
	case err == nil && c.brief:
		_ = conn.SetDeadline(c.since.Add(d.atMost))
	}
	return conn, err
}

// come has addr be dialed next. It may be dialed twice, with TLS and without.
func (c *dialing) come(addr string, atMost time.Duration) {
	if addr != c.addr {
		c.leave(atMost)
		c.addr, c.since = addr, time.Now()
	}
}

// leave is for when the last address that was dialed has failed.
func (c *dialing) leave(atMost time.Duration) {
	if c.addr != "" && c.slow(atMost) {
		c.late = append(c.late, c.addr)
		c.cut = c.cut || c.brief
	}
}

// slow says whether the address that was dialed last has had a good part of the time that
// there is: what refuses a connection does so at once.
func (c *dialing) slow(atMost time.Duration) bool { return time.Since(c.since) >= atMost/2 }

// silentHosts are those that are left out. They are safe for concurrent use.
type silentHosts struct {
	mu    sync.Mutex
	addrs map[string]bool // guarded by mu
}

func (h *silentHosts) add(addrs []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, addr := range addrs {
		h.addrs[addr] = true
	}
}

func (h *silentHosts) has(addr string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.addrs[addr]
}

// clear has no host be left out any more.
func (h *silentHosts) clear() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.addrs)
}
