package proxy_test

import (
	"net/http"
	"testing"

	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// One caller, or one key, cannot take all there is; others are not in its way, and
// what is refused works once there is room.
func TestCrowds(t *testing.T) {
	t.Parallel()
	const alice, bob = "Authorization: alice", "Authorization: bob"
	for _, c := range []struct {
		name, problem      string
		limit              func(*proxy.Config)
		key, same, another [2]string // key and caller
	}{
		{
			"caller", "too-many-of-caller", func(c *proxy.Config) { c.MaxPerCaller = 1 },
			[2]string{"slow", alice},
			[2]string{"else", alice},
			[2]string{"else", bob},
		},
		{
			"caller without a key", "too-many-of-caller", func(c *proxy.Config) { c.MaxPerCaller = 1 },
			[2]string{"", alice},
			[2]string{"", alice},
			[2]string{"", bob},
		},
		{
			"caller by address", "too-many-of-caller", func(c *proxy.Config) { c.MaxPerCaller = 1 },
			[2]string{"slow", "X-A: 1"},
			[2]string{"", "X-A: 2"},
			[2]string{"", bob},
		},
		{
			"key", "too-many-with-key", func(c *proxy.Config) { c.MaxPerKey = 1 },
			[2]string{"slow", alice},
			[2]string{"slow", bob},
			[2]string{"else", alice},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			entered, proceed := make(chan struct{}), make(chan struct{})
			r := newRig(t, func(conn backendtest.Conn, q *backendtest.Request) {
				if q.URL.Path == "/slow" {
					entered <- struct{}{}
					<-proceed
				}
				backendtest.OK(conn, q)
			}, c.limit)
			done := make(chan answerOrError, 1)
			go func() {
				a, err := r.try(http.MethodPost, "/slow", c.key[0], "x", c.key[1])
				done <- answerOrError{a, err}
			}()
			<-entered
			a := r.do(http.MethodPost, "/", c.same[0], "x", c.same[1])
			r.isProblem(a, 429, c.problem)
			if a.Header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			if a := r.do(http.MethodPost, "/", c.another[0], "x", c.another[1]); a.StatusCode != 200 {
				t.Errorf("another: %d %s", a.StatusCode, a.body)
			}
			close(proceed)
			if a := <-done; a.err != nil || a.StatusCode != 200 {
				t.Errorf("%v", a)
			}
			if a := r.do(http.MethodPost, "/", "then", "x", c.same[1]); a.StatusCode != 200 {
				t.Errorf("when there is room: %d %s", a.StatusCode, a.body)
			}
		})
	}
}
