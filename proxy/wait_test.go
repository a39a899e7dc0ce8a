package proxy_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

func slow(c backendtest.Conn, _ *backendtest.Request) {
	time.Sleep(20 * time.Second)
	c.Answer(201, "made")
}

// Whether a request waits for the first one, and for how long.
func TestWaiting(t *testing.T) {
	t.Parallel()
	wait := func(c *proxy.Config) { c.Wait, c.MaxWait = true, 30*time.Second }
	may := func(c *proxy.Config) { c.MaxWait = 30 * time.Second }
	never := func(c *proxy.Config) { c.MaxWait = 0 }
	for name, c := range map[string]struct {
		rules  func(*proxy.Config)
		prefer string
		after  time.Duration
		status int
	}{
		"rejected at once":          {may, "", 0, 409},
		"the route waits":           {wait, "", 19 * time.Second, 201},
		"the client asks to wait":   {may, "respond-async, wait=30", 19 * time.Second, 201},
		"wait, in quotes":           {may, `Wait="30";x=1`, 19 * time.Second, 201},
		"the client waits less":     {wait, "wait=5", 5 * time.Second, 409},
		"the client does not wait":  {wait, "wait=0", 0, 409},
		"the route bounds it":       {func(c *proxy.Config) { c.MaxWait = 7 * time.Second }, "wait=3600", 7 * time.Second, 409},
		"the route does not let it": {never, "wait=30", 0, 409},
		"something else":            {may, `foo="a, wait=9", bar`, 0, 409},
		"the first counts":          {wait, "wait=1, wait=30", time.Second, 409},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := bubbleRig(t, slow, c.rules)
				first := make(chan answer, 1)
				go func() { first <- r.post("k", "x") }()
				time.Sleep(time.Second)
				begun := time.Now()
				a := r.post("k", "x", "Prefer: "+c.prefer)
				if d := time.Since(begun); a.StatusCode != c.status || d.Truncate(100*time.Millisecond) != c.after {
					t.Errorf("%d after %v, want %d after %v", a.StatusCode, d, c.status, c.after)
				}
				if c.status == 201 && (a.body != "made" || a.Header.Get("Idempotent-Replayed") != "true") {
					t.Errorf("the waiter got %q %v", a.body, a.Header)
				}
				if a := <-first; a.body != "made" {
					t.Errorf("the first got %q", a.body)
				}
				r.executions("k", 1)
			})
		})
	}
}

// A stop does not wait for those who wait: they get their answer at once, and can ask
// another proxy. What is under way is finished.
func TestAStopSendsWaitersHome(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := bubbleRig(t, slow, func(c *proxy.Config) { c.Wait, c.MaxWait = true, time.Minute })
		first, waiter, down := make(chan answer, 1), make(chan answer, 1), make(chan error, 1)
		go func() { first <- r.post("k", "x") }()
		time.Sleep(time.Second)
		go func() { waiter <- r.post("k", "x") }()
		time.Sleep(time.Second)
		begun := time.Now()
		go func() { down <- r.server.Shutdown(context.Background()) }()
		r.isProblem(<-waiter, 409, "in-progress")
		if d := time.Since(begun); d > time.Second {
			t.Errorf("the waiter was sent home after %v", d)
		}
		if a := <-first; a.body != "made" {
			t.Errorf("what was under way got %d %q", a.StatusCode, a.body)
		}
		if err := <-down; err != nil {
			t.Error(err)
		}
		r.executions("k", 1)
	})
}

// A preference that cannot be read is as good as none (RFC 7240 section 2).
func TestMalformedPreference(t *testing.T) {
	t.Parallel()
	r := newRig(t, answerOK, func(c *proxy.Config) { c.MaxWait = time.Minute })
	for i, prefer := range []string{"wait", "wait=", "wait=-1", "wait=1.5", "wait=soon", `wait="`, "wait=99999999999"} {
		key := fmt.Sprint(i)
		if a := r.post(key, "x", "Prefer: "+prefer); a.StatusCode != 200 {
			t.Errorf("%q: %d %s", prefer, a.StatusCode, a.body)
		}
		r.executions(key, 1)
	}
}

// A waiter whose predecessor fails runs itself.
func TestWaiterTakesOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := bubbleRig(t, func(c backendtest.Conn, q *backendtest.Request) {
			time.Sleep(10 * time.Second)
			if q.Number == 1 {
				_ = c.Close()
				return
			}
			c.Answer(200, "second")
		}, func(c *proxy.Config) { c.Wait, c.MaxWait = true, time.Minute })
		first, rest := make(chan answer, 1), make(chan answer, 20)
		go func() { first <- r.post("k", "x") }()
		time.Sleep(time.Second)
		for range cap(rest) {
			go func() { rest <- r.post("k", "x") }()
		}
		r.isProblem(<-first, 502, "backend-cut")
		fresh := 0
		for range cap(rest) {
			a := <-rest
			if a.body != "second" {
				t.Errorf("a waiter got %d %q", a.StatusCode, a.body)
			}
			if a.Header.Get("Idempotent-Replayed") == "" {
				fresh++
			}
		}
		if fresh != 1 {
			t.Errorf("%d answers were not replays, want one", fresh)
		}
		r.executions("k", 2)
	})
}
