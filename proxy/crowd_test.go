package proxy_test

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

func loopback() []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }

// Who is refused for one reason does not count for another.
func TestCrowdsGiveBack(t *testing.T) {
	t.Parallel()
	entered, proceed := make(chan struct{}), make(chan struct{})
	r := newRig(t, func(conn backendtest.Conn, q *backendtest.Request) {
		if q.URL.Path == "/slow" {
			entered <- struct{}{}
			<-proceed
		}
		backendtest.OK(conn, q)
	}, func(c *proxy.Config) { c.MaxPerCaller, c.MaxPerAddress, c.MaxPerKey = 2, 2, 1 })
	const me = "Authorization: me"
	done := make(chan answerOrError, 1)
	go func() {
		a, err := r.try(http.MethodPost, "/slow", "k", "x", me)
		done <- answerOrError{a, err}
	}()
	<-entered
	for range 3 {
		r.isProblem(r.do(http.MethodPost, "/slow", "k", "x", me), 429, "too-many-with-key")
	}
	if a := r.do(http.MethodPost, "/", "else", "x", me); a.StatusCode != 200 {
		t.Errorf("one of two is under way, and another got %d %s", a.StatusCode, a.body)
	}
	close(proceed)
	if a := <-done; a.err != nil || a.StatusCode != 200 {
		t.Errorf("%v", a)
	}
}

// Who is refused with a key learns which one, and so does the log.
func TestCrowdsNameTheKey(t *testing.T) {
	t.Parallel()
	entered, proceed := make(chan struct{}), make(chan struct{})
	refused := make(chan idem.Key, 1)
	r := newRig(t, func(conn backendtest.Conn, q *backendtest.Request) {
		entered <- struct{}{}
		<-proceed
		backendtest.OK(conn, q)
	}, func(c *proxy.Config) {
		c.MaxPerKey = 1
		c.Trace.Done = func(q *proxy.Report) {
			if q.Status == 429 {
				refused <- q.Key.Clone()
			}
		}
	})
	done := make(chan answerOrError, 1)
	go func() {
		a, err := r.try(http.MethodPost, "/", "of-two", "x")
		done <- answerOrError{a, err}
	}()
	<-entered
	a := r.post("of-two", "x")
	r.isProblem(a, 429, "too-many-with-key")
	if !strings.Contains(a.body, `"idempotency_key":"of-two"`) {
		t.Errorf("the problem does not name the key: %s", a.body)
	}
	if k := <-refused; k.Value() != "of-two" {
		t.Errorf("the report has key %q", k.Value())
	}
	close(proceed)
	if a := <-done; a.err != nil || a.StatusCode != 200 {
		t.Errorf("%v", a)
	}
}

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
			"nobody's address", "too-many-of-address", func(c *proxy.Config) { c.MaxPerAddress, c.TrustedProxies = 1, loopback() },
			[2]string{"slow", "X-A: 1"},
			[2]string{"", "X-A: 2"},
			[2]string{"", "X-Forwarded-For: 192.0.2.7"},
		},
		{
			"address, whatever it says of itself", "too-many-of-address", func(c *proxy.Config) {
				c.MaxPerCaller, c.MaxPerAddress, c.TrustedProxies = 1, 1, loopback()
			},
			[2]string{"slow", alice},
			[2]string{"", bob},
			[2]string{"", "X-Forwarded-For: 192.0.2.7"},
		},
		{
			"credential, wherever it comes from", "too-many-of-caller", func(c *proxy.Config) {
				c.MaxPerCaller, c.MaxPerAddress, c.TrustedProxies = 1, 10, loopback()
			},
			[2]string{"slow", alice},
			[2]string{"", alice + "\nX-Forwarded-For: 192.0.2.7"},
			[2]string{"", bob},
		},
		{
			"IPv6 network", "too-many-of-address", func(c *proxy.Config) { c.MaxPerAddress, c.TrustedProxies = 1, loopback() },
			[2]string{"slow", "X-Forwarded-For: 2001:db8:1:2::1"},
			[2]string{"", "X-Forwarded-For: 2001:db8:1:2:3::4"},
			[2]string{"", "X-Forwarded-For: 2001:db8:1:3::1"},
		},
		{
			"address with a port", "too-many-of-address", func(c *proxy.Config) { c.MaxPerAddress, c.TrustedProxies = 1, loopback() },
			[2]string{"slow", "X-Forwarded-For: 192.0.2.7:4711"},
			[2]string{"", "X-Forwarded-For: 198.51.100.1, 192.0.2.7:4712"},
			[2]string{"", "X-Forwarded-For: 192.0.2.8:4711"},
		},
		{
			"IPv6 address with a port", "too-many-of-address", func(c *proxy.Config) { c.MaxPerAddress, c.TrustedProxies = 1, loopback() },
			[2]string{"slow", "X-Forwarded-For: [2001:db8::1]:4711"},
			[2]string{"", "X-Forwarded-For: [2001:db8::1], 127.0.0.1:80"},
			[2]string{"", "X-Forwarded-For: [2001:db8:0:1::1]:4711"},
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
				a, err := r.try(http.MethodPost, "/slow", c.key[0], "x", strings.Split(c.key[1], "\n")...)
				done <- answerOrError{a, err}
			}()
			<-entered
			a := r.do(http.MethodPost, "/", c.same[0], "x", strings.Split(c.same[1], "\n")...)
			r.isProblem(a, 429, c.problem)
			if a.Header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			if a := r.do(http.MethodPost, "/", c.another[0], "x", strings.Split(c.another[1], "\n")...); a.StatusCode != 200 {
				t.Errorf("another: %d %s", a.StatusCode, a.body)
			}
			close(proceed)
			if a := <-done; a.err != nil || a.StatusCode != 200 {
				t.Errorf("%v", a)
			}
			if a := r.do(http.MethodPost, "/", "then", "x", strings.Split(c.same[1], "\n")...); a.StatusCode != 200 {
				t.Errorf("when there is room: %d %s", a.StatusCode, a.body)
			}
		})
	}
}
