package proxy

import (
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valyala/fasthttp"
)

// goneConn is a connection that was closed.
type goneConn struct{ net.Conn }

type goneSocket struct{ syscall.RawConn }

func (goneConn) SyscallConn() (syscall.RawConn, error) { return goneSocket{}, nil }

func (goneSocket) Control(func(uintptr)) error { return errors.New("it was closed") }

// watchOf is a watch of a request on a connection, and counts how often it is pulled.
func watchOf(c *clientConn, pulled *atomic.Int32) *watch {
	w := &watch{client: c}
	w.whenLeft(func() { pulled.Add(1) })
	c.rounds.begin(w)
	return w
}

// goOn says whether there is a timer.
func (r *rounds) goOn() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next != nil
}

// TestRoundsGoOn: the rounds of a connection go on from one request to the next. The
// request that has just begun when it is looked at has a whole second, and one that has
// ended hears nothing any more.
func TestRoundsGoOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &clientConn{Conn: goneConn{}}
		var first, second atomic.Int32
		w := watchOf(c, &first)
		time.Sleep(lookAtClient * 3 / 2) // past the first look
		w.end()
		watchOf(c, &second)
		w.end()                  // which may be repeated, and is nothing to the second one
		time.Sleep(lookAtClient) // past the second one
		if synctest.Wait(); first.Load() != 0 || second.Load() != 0 {
			t.Errorf("after the second look: pulled %d and %d times", first.Load(), second.Load())
		}
		time.Sleep(3 * lookAtClient)
		if synctest.Wait(); first.Load() != 0 || second.Load() != 1 {
			t.Errorf("in the end: pulled %d and %d times", first.Load(), second.Load())
		}
		if c.rounds.goOn() {
			t.Error("the rounds do not end, though nobody waits")
		}
	})
}

// TestRoundsRest: a connection that is closed leaves no timer behind; one whose request
// still waits tells it.
func TestRoundsRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &clientConn{Conn: goneConn{}}
		var pulled atomic.Int32
		w := watchOf(c, &pulled)
		c.rounds.rest()
		time.Sleep(2 * lookAtClient)
		if synctest.Wait(); pulled.Load() != 1 {
			t.Errorf("pulled %d times", pulled.Load())
		}
		w.end()
		watchOf(c, &pulled).end()
		c.rounds.rest()
		if c.rounds.goOn() {
			t.Error("a timer is left behind")
		}
	})
}

// A stream that has ended is looked after no more: a connection that its client keeps open holds
// nothing of it, which may be a whole response.
func TestAStreamThatHasEndedIsHeldByNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &clientConn{Conn: goneConn{}}
		q := &request{ctx: &fasthttp.RequestCtx{}}
		q.ctx.Init2(c, nil, false)
		one := &tape{readOn: time.Minute, deserted: func() {}, hold: func(int) {}, length: -1, limit: 100}
		one.start()
		q.send(one.read(true, nil))
		if on, _ := c.rounds.due(); on == nil {
			t.Fatal("nobody looks after its client")
		}
		one.end(nil)
		if err := q.ctx.Response.CloseBodyStream(); err != nil {
			t.Fatal(err)
		}
		if on, _ := c.rounds.due(); on != nil {
			t.Error("its client is looked after")
		}
	})
}
