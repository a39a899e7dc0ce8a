package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/redact"
	"github.com/idemproxy/idemproxy/pstore"
)

// Copied counts what was copied.
type Copied struct{ Completed, Held, Expired, Entries int }

// Errors of Copy.
var (
	ErrCopySame  = errors.New("both stores are the same one")
	ErrCopyInUse = errors.New("a key is in progress there: a proxy serves, or has died less than a lease ago; stop it, wait " +
		"until no key is in progress (idemproxy list --state in-progress), and copy again")
	ErrCopyNothing = errors.New("there are no records, and no proxy has ever served with it: name the store that your proxies " +
		"serve with, and their settings (-c FILE, or --namespace or --store-schema if they set it)")
	ErrCopyNotEmpty = errors.New("there are records already")
	ErrCopyChanged  = errors.New("it has changed while it was copied: a proxy serves from it. The copy is not complete: empty it, " +
		"stop all proxies, and copy again")
)

const (
	copyWithin = 10 * time.Second // for one record, and for a store to be reached
	copiers    = 32
	// longestLease is how long leases that nobody renews are waited for.
	longestLease = 5 * time.Minute
	copyLease    = time.Minute      // the lease of a record while it is written
	copyRemains  = time.Millisecond // of a response that is gone, where its key is remembered
)

// Copy writes all records of one store to another, which is empty; nobody may use either.
func Copy(ctx context.Context, c *config.Config, from, to string) (Copied, error) {
	if from == to {
		return Copied{}, ErrCopySame
	}
	codec, err := codecOf(c)
	if err != nil {
		return Copied{}, fmt.Errorf("configuration: %w", err)
	}
	stores := make([]gatedStore, 2)
	for i, url := range []string{from, to} {
		one := *c
		one.Store = url
		open := openNamed
		if i == 0 {
			open = openExisting
		}
		if stores[i], err = open(&one, codec); err != nil {
			if _, named := embeddedDir(&one); !named { // else it names the directory
				err = fmt.Errorf("%s: %w", redact.URL(url), err)
			}
			return Copied{}, redact.Error(err, url)
		}
		defer func() { _ = stores[i].Close() }()
		stores[i].gate(func() error { return nil })
		err := reach(ctx, stores[i])
		if i == 0 && errors.Is(err, pstore.ErrNoSchema) {
			err = ErrCopyNothing // what it says is for a store that is to be served with
		}
		if err != nil {
			return Copied{}, redact.Error(fmt.Errorf("%s: %w", redact.URL(url), err), url)
		}
	}
	cp := &copier{from: stores[0], to: stores[1]}
	if err := cp.run(ctx, redact.URL(from), redact.URL(to)); err != nil {
		return cp.done, redact.Error(redact.Error(err, from), to)
	}
	return cp.done, nil
}

// reach waits until a store answers.
func reach(ctx context.Context, s gatedStore) error {
	ctx, cancel := context.WithTimeout(ctx, copyWithin)
	defer cancel()
	for {
		err := s.Ping(ctx)
		if err == nil || ctx.Err() != nil || errors.Is(err, pstore.ErrNoSchema) {
			return err
		}
	}
}

type copier struct {
	from, to gatedStore

	mu      sync.Mutex
	done    Copied        // guarded by mu
	failed  error         // guarded by mu: the first
	longest time.Duration // guarded by mu: what a record has left, at most
	endless bool          // guarded by mu: a record has no end
}

// mark is enough of a record to tell that it has changed.
type mark struct {
	owner   idem.Owner
	updated int64
}

func (cp *copier) run(ctx context.Context, from, to string) error {
	empty := true
	if err := cp.to.List(ctx, func(*idem.Record) bool { empty = false; return false }); err != nil {
		return fmt.Errorf("%s: %w", to, err)
	}
	if !empty {
		return fmt.Errorf("%s: %w", to, ErrCopyNotEmpty)
	}
	before, lease, err := cp.look(ctx)
	if errors.Is(err, ErrCopyInUse) && lease <= longestLease {
		// An embedded store has leases begin anew when it is opened; they lapse while it is open.
		select {
		case <-time.After(lease + time.Millisecond):
			before, _, err = cp.look(ctx)
		case <-ctx.Done():
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	if err := cp.something(ctx, before); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	if err := cp.copyAll(ctx, before); err != nil {
		return fmt.Errorf("the copy is not complete: empty %s before the next try: %w", to, err)
	}
	if err := cp.copyEntries(ctx); err != nil {
		return fmt.Errorf("the copy is not complete: empty %s before the next try: the registry: %w", to, err)
	}
	after, _, err := cp.look(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	for k, now := range after { // what is not there any more has ended
		if was, known := before[k]; !known || was != now {
			return fmt.Errorf("%s: %w", from, ErrCopyChanged)
		}
	}
	return nil
}

// look is how everything in the source stands. ErrCopyInUse: something is in progress, for
// so long if it is not renewed.
func (cp *copier) look(ctx context.Context) (all map[idem.Key]mark, lease time.Duration, err error) {
	all = map[idem.Key]mark{}
	err = cp.from.List(ctx, func(r *idem.Record) bool {
		if r.State == idem.InProgress {
			lease = max(lease, milli(r.LeaseUntil-r.ReadAt))
		}
		all[r.Key.Clone()] = mark{r.Owner, r.Updated}
		return true
	})
	if err == nil && lease > 0 {
		err = ErrCopyInUse
	}
	return all, lease, err
}

// something is an error if the source has nothing at all: a proxy that serves enters how it
// names records, so it is not the store that was served with.
func (cp *copier) something(ctx context.Context, all map[idem.Key]mark) error {
	if len(all) > 0 {
		return nil
	}
	entries, err := cp.from.Entries(ctx)
	if err == nil && len(entries) == 0 {
		err = ErrCopyNothing
	}
	return err
}

func (cp *copier) copyAll(ctx context.Context, all map[idem.Key]mark) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	keys := make(chan idem.Key)
	var work sync.WaitGroup
	for range copiers {
		work.Go(func() {
			for k := range keys {
				if err := cp.copyOne(ctx, k); err != nil {
					cp.note(func() { cp.failed = cmpError(cp.failed, fmt.Errorf("%s: %w", k, err)) })
					cancel()
				}
			}
		})
	}
	for k := range all {
		select {
		case keys <- k:
		case <-ctx.Done():
		}
	}
	close(keys)
	work.Wait()
	if cp.failed != nil {
		return cp.failed
	}
	return ctx.Err() //nolint:wrapcheck // the caller's own
}

func cmpError(first, other error) error {
	if first != nil {
		return first
	}
	return other
}

func (cp *copier) note(f func()) {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	f()
}

// copyOne writes a record as its attempt would have, with what it has left.
func (cp *copier) copyOne(ctx context.Context, k idem.Key) error {
	ctx, cancel := context.WithTimeout(ctx, copyWithin)
	defer cancel()
	asked := time.Now()
	r, err := cp.from.Get(ctx, k)
	switch {
	case errors.Is(err, idem.ErrNotFound):
		return nil // it has ended meanwhile
	case err != nil:
		return err
	case r.State == idem.InProgress:
		return ErrCopyInUse
	}
	c := claimOf(&r)
	out, err := cp.to.Acquire(ctx, c)
	if err == nil && out.Kind != idem.VerdictAcquired && out.Kind != idem.VerdictYours {
		err = fmt.Errorf("%w: %v", ErrCopyNotEmpty, out.Kind)
	}
	if err != nil {
		return err
	}
	lease := c.Lease()
	switch r.State {
	case idem.Completed:
		lease.Retention = max(time.Millisecond, lease.Retention-time.Since(asked)) // not longer than it had
		err = cp.to.Complete(ctx, lease, r.Response)
	case idem.Expired:
		err = cp.to.Complete(ctx, lease, &idem.Response{Status: 204, BodyOmitted: true}) // is not replayed, should it be met
	default:
		err = cp.to.Hold(ctx, lease)
	}
	if err == nil {
		cp.note(func() { cp.count(&r) })
	}
	return err
}

// claimOf is what has a record made like r, of the same attempt: backends that keep receipts
// know it by its token.
func claimOf(r *idem.Record) idem.Claim {
	c := idem.Claim{
		Key: r.Key, Owner: r.Owner, Fingerprint: r.Fingerprint, Binding: r.Binding, Recipe: r.Recipe, Hints: r.Hints(),
		TTL: copyLease, Retention: milli(r.Retention), Remember: milli(r.Remember), HoldOnLapse: true,
	}
	if c.Owner == (idem.Owner{}) { // an operator's
		c.Owner = idem.NewOwner()
	}
	if r.Expires != 0 {
		replayed := milli(r.ReplayUntil - r.ReadAt)
		if r.State == idem.Expired {
			replayed = copyRemains
		}
		c.Retention, c.Remember = replayed, max(0, milli(r.Expires-r.ReadAt)-replayed)
	}
	return c
}

func (cp *copier) count(r *idem.Record) {
	switch r.State {
	case idem.Completed:
		cp.done.Completed++
	case idem.Expired:
		cp.done.Expired++
	default:
		cp.done.Held++
	}
	cp.longest = max(cp.longest, milli(r.Expires-r.ReadAt))
	cp.endless = cp.endless || r.Expires == 0
}

// copyEntries copies how records were named and compared, for as long as the last of them.
func (cp *copier) copyEntries(ctx context.Context) error {
	entries, err := cp.from.Entries(ctx)
	if err != nil {
		return err
	}
	keep := cp.longest
	if cp.endless {
		keep = 0
	} else if keep <= 0 {
		return nil // there are no records
	}
	for _, e := range entries {
		if e.Ended || strings.HasPrefix(e.Name, lifeEntry) { // the other store has a life of its own
			continue
		}
		if err := cp.to.Enter(ctx, e.Name, e.Text, keep); err != nil {
			return err
		}
		cp.done.Entries++
	}
	return nil
}

func milli(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
