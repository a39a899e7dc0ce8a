package proxy

import (
	"bufio"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// sharedPlace is the place of a request whose response is on a tape, and how often it was given
// back.
func sharedPlace(t *testing.T, isFirst bool) (one *tape, body *underWay, back func() int) {
	t.Helper()
	s, left := new(Server), 0
	s.admission.limit(10, 10)
	if !s.admission.enter() {
		t.Fatal("there is no room")
	}
	q := &request{ctx: new(fasthttp.RequestCtx), leave: func() { left++ }}
	one = &tape{readOn: time.Hour, deserted: func() {}, hold: func(int) {}, length: -1, limit: 100}
	one.start()
	q.send(one.read(isFirst, nil))
	s.depart(q)
	body, ok := q.ctx.Response.BodyStream().(*underWay)
	if !ok {
		t.Fatal("the body is another one")
	}
	return one, body, func() int {
		if under := s.UnderWay(); under != 1-left {
			t.Errorf("%d are under way, and %d have left the crowd", under, left)
		}
		return left
	}
}

// A stream has the place of its first client until it has ended, whether that client is there
// or not; and a client, as long as it reads.
func TestAStreamSharesItsFirstClientsPlace(t *testing.T) {
	t.Parallel()
	ends := map[string]func(*tape){
		"all of it": func(one *tape) { one.vacate(); one.end(nil) },
		"cut":       func(one *tape) { one.vacate(); one.end(errors.New("cut")) },
	}
	for name, end := range ends {
		for _, c := range []struct {
			name                 string
			isFirst, leavesFirst bool
			after                int // how often it was given back after the first of both
		}{
			{"the first client leaves first", true, true, 0},
			{"the stream ends first", true, false, 0},
			{"one that joined leaves first", false, true, 1},
			{"one that joined reads on", false, false, 0},
		} {
			t.Run(name+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				one, body, back := sharedPlace(t, c.isFirst)
				leave := func() {
					for range 2 { // which may be repeated
						if err := body.Close(); err != nil {
							t.Error(err)
						}
					}
				}
				first, second := func() { end(one) }, leave
				if c.leavesFirst {
					first, second = second, first
				}
				first()
				if n := back(); n != c.after {
					t.Errorf("given back %d times after one of both, want %d", n, c.after)
				}
				second()
				if n := back(); n != 1 {
					t.Errorf("given back %d times in the end", n)
				}
			})
		}
	}
}

// A body that panics, which the library survives, gives its place back when it is closed.
func TestAPlaceOutlivesNoPanic(t *testing.T) {
	t.Parallel()
	one, body, back := sharedPlace(t, false)
	body.ReadCloser = panicking{body.ReadCloser}
	var resp fasthttp.Response
	resp.SetBodyStream(body, -1)
	if err := resp.Write(bufio.NewWriter(io.Discard)); err == nil {
		t.Error("it did not panic")
	}
	resp.Reset()
	if n := back(); n != 1 {
		t.Errorf("given back %d times", n)
	}
	one.end(nil)
}

// panicking is a body that cannot be read.
type panicking struct{ io.Closer }

func (panicking) Read([]byte) (int, error) { panic("a fault") }
