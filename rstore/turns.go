package rstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/redis/rueidis"
)

// errNoTurn is the reason why nothing was sent: so many calls had a connection of their
// own to the server that this one got none in its time.
var errNoTurn = errors.New("all connections for writes that wait for replicas are in use")

// turns bounds how many calls have a connection of their own to a server, for each server.
//
// The client library's pool has a bound, too, but must never reach it. The library (v1.0.79)
// does not say of a call whose time ended in the pool that nothing was sent. It also counts
// one connection less after each of these calls, so that its bound grows.
type turns struct {
	most int

	mu      sync.Mutex
	servers map[string]chan struct{} // by address; guarded by mu
}

func newTurns(most int) *turns { return &turns{most: most, servers: map[string]chan struct{}{}} }

// take waits for a turn at a server until ctx ends.
func (t *turns) take(ctx context.Context, addr string) (done func(), err error) {
	t.mu.Lock()
	taken := t.servers[addr]
	if taken == nil {
		taken = make(chan struct{}, t.most)
		t.servers[addr] = taken
	}
	t.mu.Unlock()
	select {
	case taken <- struct{}{}:
		return func() { <-taken }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w: %w", errNotSent, errNoTurn, ctx.Err())
	}
}

// inTurn has send use a connection of its own to a server. Its results say that nothing was
// sent if there was no turn, or no connection.
func (l *link) inTurn(
	ctx context.Context, addr string, n int, send func(context.Context) []rueidis.RedisResult,
) []rueidis.RedisResult {
	done, err := l.turns.take(ctx, addr)
	if err != nil {
		return failed(n, err)
	}
	defer done()
	var e errand
	results := send(context.WithValue(ctx, errandKey{}, &e))
	if err := results[0].NonRedisError(); err != nil && e.inVain() {
		return failed(n, fmt.Errorf("%w: %w", errNotSent, err))
	}
	return results
}

// failed are the results of n commands that were not sent.
func failed(n int, err error) []rueidis.RedisResult {
	results := make([]rueidis.RedisResult, n)
	for i := range results {
		results[i] = rueidis.NewErrorResult(err)
	}
	return results
}

// errand is what is known of the connection that a call needed. The client library passes a
// call's context to who makes a connection for it, which is how that one finds the errand.
type errand struct {
	dialed  atomic.Bool // no connection was idle
	greeted atomic.Bool // the server answered the library over the new one
	wrote   atomic.Bool // and was sent more after that: the call's commands
}

type errandKey struct{}

// inVain says whether a connection had to be made for the call, and was not made.
func (e *errand) inVain() bool { return e.dialed.Load() && !e.wrote.Load() }

// dialer makes connections for the client library.
type dialer func(ctx context.Context, addr string) (net.Conn, error)

// forErrands tells the errand of the call that a connection is made for.
func (d dialer) forErrands() dialer {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		e, ok := ctx.Value(errandKey{}).(*errand)
		if !ok {
			return d(ctx, addr)
		}
		e.dialed.Store(true)
		conn, err := d(ctx, addr)
		if err != nil {
			return nil, err
		}
		return &errandConn{conn, e}, nil
	}
}

// errandConn is a connection that was made for a call. The library sends HELLO first, and
// commands only after the answer.
type errandConn struct {
	net.Conn
	errand *errand
}

func (c *errandConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && !c.errand.greeted.Load() {
		c.errand.greeted.Store(true)
	}
	return n, err //nolint:wrapcheck // as a connection's
}

func (c *errandConn) Write(b []byte) (int, error) {
	if c.errand.greeted.Load() && !c.errand.wrote.Load() {
		c.errand.wrote.Store(true)
	}
	return c.Conn.Write(b) //nolint:wrapcheck // as a connection's
}
