package proxy

import (
	"testing"

	"github.com/valyala/fasthttp"
)

// TestARoomIsHeldUntilItIsClosed: what a response was read into is nobody else's until
// the server has written it, and then only once.
func TestARoomIsHeldUntilItIsClosed(t *testing.T) {
	t.Parallel()
	const size = 100 << 10
	s := &Server{}
	q := &request{ctx: &fasthttp.RequestCtx{}, admission: &s.admission}
	own := room(size)[:size]
	q.ctx.Response.SwapBody(own)
	q.Hold(size)
	s.heldUntilSent(q)
	taken := map[*byte]bool{}
	for range 50 {
		taken[&room(size)[:1][0]] = true
	}
	if taken[&own[0]] {
		t.Error("it was given away before it was sent")
	}
	if err := q.ctx.Response.CloseBodyStream(); err != nil {
		t.Fatal(err)
	}
	for n := 0; n < 50; n++ {
		if b := &room(size)[:1][0]; b == &own[0] && taken[b] {
			t.Error("it was given away twice")
		} else {
			taken[b] = true
		}
	}
	if s.admission.bytes.Load() != 0 {
		t.Errorf("%d bytes are still counted", s.admission.bytes.Load())
	}
}
