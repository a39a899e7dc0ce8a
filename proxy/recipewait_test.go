package proxy_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// overtaken is a store in which another process, with settings of its own, takes a key that
// becomes free before who waits for it asks again.
type overtaken struct {
	*storetest.Memory
	next atomic.Bool // at the next acquire
}

// Acquire implements idem.Store.
func (o *overtaken) Acquire(ctx context.Context, c idem.Claim) (idem.Outcome, error) {
	if o.next.CompareAndSwap(true, false) {
		other := idem.Claim{Key: c.Key, Owner: idem.Owner{1}, Recipe: 99, TTL: time.Hour, Retention: time.Hour}
		if _, err := o.Memory.Acquire(ctx, other); err != nil {
			return idem.Outcome{}, err
		}
	}
	return o.Memory.Acquire(ctx, c)
}

// Of those who wait together one asks for all. That a recipe could not be looked up just now is
// true of all of them: none is told that nobody knows it.
func TestRecipeThatCannotBeLookedUpForMany(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &overtaken{Memory: storetest.NewMemory()}
		r := bubbleRig(t, func(c backendtest.Conn, _ *backendtest.Request) {
			time.Sleep(20 * time.Second)
			store.next.Store(true)
			c.Answer(503, "busy") // the key is free
		}, func(c *proxy.Config) {
			c.Engine.Close(t.Context())
			c.Engine = idem.NewEngine(idem.Config{Store: store})
			c.Wait, c.MaxWait = true, time.Minute
			c.RecipeUnread = func(idem.Recipe) bool { return true }
		})
		first, waiters := make(chan answer, 1), make(chan answer, 3)
		go func() { first <- r.post("k", "x") }()
		time.Sleep(time.Second)
		for range cap(waiters) {
			go func() { waiters <- r.post("k", "x") }()
		}
		if a := <-first; a.StatusCode != 503 {
			t.Errorf("the first got %d %s", a.StatusCode, a.body)
		}
		for range cap(waiters) {
			r.isProblem(<-waiters, 500, "store-unavailable")
		}
	})
}
