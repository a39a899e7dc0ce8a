package sim_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// storeTimeout is for how long a call waits for the store.
const storeTimeout = 2 * time.Second

// whole is a store with all that the product asks of one.
type whole interface {
	idem.Store
	idem.Inspector
	idem.Notifier
}

// door is a process's way to its store. Something may be wrong with it, whichever store it is.
type door struct {
	whole
	w       *world
	process string

	mu    sync.Mutex
	way   way            // guarded by mu
	part  part           // of the calls, which the way is of; guarded by mu
	calls map[string]int // guarded by mu
}

// part is which calls something is wrong with: a store may take some, and not others.
type part uint8

const (
	all part = iota
	writes
	grants
	endingsOf
	responses
	renewals
	reads
)

var parts = [...]string{"", " to all that changes but renewals", " to acquires", " to endings", " to responses", " to renewals", " to reads"}

// has says whether a call is of the part.
func (p part) has(call string) bool {
	switch p {
	case all:
		return true
	case writes:
		return call != "renew" && call != "get" && call != "list" && call != "ping"
	case grants:
		return call == "acquire"
	case endingsOf:
		return call == "complete" || call == "hold" || call == "release"
	case responses:
		return call == "complete"
	case renewals:
		return call == "renew"
	case reads:
		return call == "get" || call == "list"
	}
	return false
}

// renews says that leases are kept while something is wrong with the part.
func (p part) renews() bool { return p != all && p != renewals }

// way is what is wrong with a door.
type way uint8

const (
	open   way = iota
	shut       // each call fails at once, and does nothing
	lost       // each call does nothing, and fails when its time is over
	deaf       // each call does what it should, and its answer gets lost
	gone       // the process has been killed
	lately     // each call is done after its caller has given up
)

var ways = [...]string{"open", "shut", "lost", "deaf", "gone", "late"}

// set says what is wrong with which calls, and whether leases were kept before, and are now.
func (d *door) set(to way, of part) (renews bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	renews = (d.way == open || d.part.renews()) && (to == open || of.renews())
	d.way, d.part = to, of
	return renews
}

// answers says that nothing is wrong with all of the calls.
func (d *door) answers() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.way == open || d.part != all
}

// isOpen says that nothing is wrong with any call.
func (d *door) isOpen() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.way == open
}

func (d *door) count(call string) way {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls[call]++
	if !d.part.has(call) {
		return open
	}
	return d.way
}

// asked is how often the store was asked for anything but what is regular.
func (d *door) asked() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for call, k := range d.calls {
		if call != "ping" && call != "list" {
			n += k
		}
	}
	return n
}

// pass does a call, unless something is wrong.
func (d *door) pass(ctx context.Context, call string, do func(ctx context.Context) error) error {
	way := d.count(call)
	if ctx.Err() != nil && way != gone {
		d.w.violated("%s: the store is asked to %s for a request that is over", d.process, call)
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	switch way {
	case open:
		return do(ctx)
	case deaf:
		_ = do(ctx)
		<-ctx.Done()
	case lost:
		<-ctx.Done()
	case lately:
		if changes := call != "get" && call != "renew" && call != "list"; changes { // it matters when they are done
			go func() {
				time.Sleep(storeTimeout + 100*time.Millisecond)
				_ = do(context.WithoutCancel(ctx))
			}()
		}
		<-ctx.Done()
	case shut, gone:
	}
	return fmt.Errorf("the way to the store: %w", idem.ErrUnavailable)
}

func (d *door) Acquire(ctx context.Context, c idem.Claim) (out idem.Outcome, err error) {
	var late idem.Outcome
	c.Key = c.Key.Clone() // a late call reads it when the caller's bytes have changed
	sent := time.Now()
	err = d.pass(ctx, "acquire", func(ctx context.Context) error {
		c := c
		if c.Within -= time.Since(sent); c.Within <= 0 { // a store does not grant what comes too late
			return idem.ErrUnavailable
		}
		o, err := d.whole.Acquire(ctx, c)
		if ctx.Err() == nil {
			late = o
		}
		if o.Kind == idem.VerdictAcquired {
			d.w.bell.ring(aGrant, c.Key.Value())
		}
		return err
	})
	if err != nil {
		return idem.Outcome{}, err
	}
	return late, nil
}

func (d *door) Renew(ctx context.Context, leases []idem.Lease) (errs []error) {
	leases = slices.Clone(leases)
	for i := range leases {
		leases[i].Key = leases[i].Key.Clone()
	}
	err := d.pass(ctx, "renew", func(ctx context.Context) error {
		errs = d.whole.Renew(ctx, leases)
		for i := range leases {
			d.w.bell.ring(aRenewal, leases[i].Key.Value())
		}
		return nil
	})
	if err == nil {
		return errs
	}
	errs = make([]error, len(leases))
	for i := range errs {
		errs[i] = err
	}
	return errs
}

func (d *door) Complete(ctx context.Context, l idem.Lease, r *idem.Response) error {
	l.Key, r = l.Key.Clone(), r.Clone()
	return d.end(ctx, "complete", l, func(ctx context.Context) error { return d.whole.Complete(ctx, l, r) })
}

func (d *door) Release(ctx context.Context, l idem.Lease) error {
	l.Key = l.Key.Clone()
	return d.end(ctx, "release", l, func(ctx context.Context) error { return d.whole.Release(ctx, l) })
}

func (d *door) Hold(ctx context.Context, l idem.Lease) error {
	l.Key = l.Key.Clone()
	return d.end(ctx, "hold", l, func(ctx context.Context) error { return d.whole.Hold(ctx, l) })
}

// end is pass for what ends an attempt.
func (d *door) end(ctx context.Context, call string, l idem.Lease, do func(ctx context.Context) error) error {
	return d.pass(ctx, call, func(ctx context.Context) error {
		err := do(ctx)
		if err == nil {
			d.w.bell.ring(anEnding, l.Key.Value())
		}
		return err
	})
}

func (d *door) Ping(ctx context.Context) error {
	return d.pass(ctx, "ping", d.whole.Ping)
}

func (d *door) Get(ctx context.Context, k idem.Key) (r idem.Record, err error) {
	err = d.pass(ctx, "get", func(ctx context.Context) (err error) {
		r, err = d.whole.Get(ctx, k)
		return err
	})
	return r, err
}

func (d *door) Resolve(ctx context.Context, k idem.Key, owner idem.Owner, r *idem.Response) error {
	return d.pass(ctx, "resolve", func(ctx context.Context) error { return d.whole.Resolve(ctx, k, owner, r) })
}

func (d *door) Take(ctx context.Context, k idem.Key, owner idem.Owner) error {
	return d.pass(ctx, "take", func(ctx context.Context) error { return d.whole.Take(ctx, k, owner) })
}

func (d *door) Purge(ctx context.Context, k idem.Key) error {
	return d.pass(ctx, "purge", func(ctx context.Context) error { return d.whole.Purge(ctx, k) })
}

func (d *door) List(ctx context.Context, visit func(*idem.Record) bool) error {
	return d.pass(ctx, "list", func(ctx context.Context) error { return d.whole.List(ctx, visit) })
}
