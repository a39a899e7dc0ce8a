package storetest

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// Memory is the reference store: a map under one mutex and the domain's own
// transitions. It keeps nothing across a Close.
type Memory struct {
	bug   Bug
	start time.Time

	mu      sync.Mutex
	records map[idem.Key]*idem.Record // guarded by mu
	closed  bool                      // guarded by mu
	severed bool                      // guarded by mu
	told    []func(id [16]byte)       // guarded by mu
	entries map[string]entry          // guarded by mu
	watcher Watcher                   // guarded by mu
}

// Watcher is told what a [Memory] does, in the order in which it does it. Its methods
// must be quick and ask nothing of the store.
type Watcher interface {
	Acquired(c idem.Claim, out idem.Outcome)
	Applied(e idem.Event, l idem.Lease, r *idem.Response, err error)
	Looked(k idem.Key, r *idem.Record, err error)
	Purged(k idem.Key, err error)
}

// unwatched is the Watcher of a store that nobody watches.
type unwatched struct{}

func (unwatched) Acquired(idem.Claim, idem.Outcome)                     {}
func (unwatched) Applied(idem.Event, idem.Lease, *idem.Response, error) {}
func (unwatched) Looked(idem.Key, *idem.Record, error)                  {}
func (unwatched) Purged(idem.Key, error)                                {}

// Watch has w be told from here on, unless somebody is already.
func (m *Memory) Watch(w Watcher) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.watcher == (unwatched{}) {
		m.watcher = w
	}
}

var (
	_ idem.Store     = (*Memory)(nil)
	_ idem.Inspector = (*Memory)(nil)
	_ idem.Notifier  = (*Memory)(nil)
	_ idem.Registry  = (*Memory)(nil)
)

// NewMemory is an empty reference store.
func NewMemory() *Memory {
	return &Memory{records: make(map[idem.Key]*idem.Record), entries: make(map[string]entry), start: time.Now(), watcher: unwatched{}}
}

// Sever makes every call ErrUnavailable until mend is called.
func (m *Memory) Sever() (mend func()) {
	set := func(severed bool) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.severed = severed
	}
	set(true)
	return func() { set(false) }
}

// OnChange implements idem.Notifier; every f that was given is told of every
// change, so that several engines on one Memory are like several processes.
func (m *Memory) OnChange(f func(id [16]byte)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.told = append(m.told, f)
}

// tell is called with mu held.
func (m *Memory) tell(k idem.Key) {
	for _, f := range m.told {
		f(k.ID())
	}
}

func (m *Memory) now() int64 { return time.Since(m.start).Milliseconds() + 1 }

// enter locks, and says whether the store can be used. The caller unlocks.
func (m *Memory) enter() error {
	m.mu.Lock()
	switch {
	case m.closed:
		return idem.ErrClosed
	case m.severed:
		return idem.ErrUnavailable
	}
	return nil
}

// at is the record as it stands: what is past its retention is not there.
func (m *Memory) at(k idem.Key) *idem.Record {
	r := m.records[k]
	if r != nil && r.Ended(m.now()) {
		delete(m.records, k)
		return nil
	}
	return r
}

// Acquire implements idem.Store.
func (m *Memory) Acquire(_ context.Context, c idem.Claim) (idem.Outcome, error) {
	err := m.enter()
	defer m.mu.Unlock()
	if err != nil {
		return idem.Outcome{}, err
	}
	next, out := m.at(c.Key).Acquire(m.bug.claim(c, m.at(c.Key)), m.now())
	if next != nil {
		m.records[next.Key] = next // not c.Key, whose bytes are the caller's
		m.tell(next.Key)
	}
	m.watcher.Acquired(c, out)
	return out, nil
}

// Renew implements idem.Store.
func (m *Memory) Renew(_ context.Context, leases []idem.Lease) []error {
	errs := make([]error, len(leases))
	for i, l := range leases {
		errs[i] = m.apply(idem.EventRenew, l, nil)
	}
	return errs
}

// Complete implements idem.Store.
func (m *Memory) Complete(_ context.Context, l idem.Lease, r *idem.Response) error {
	return m.apply(idem.EventComplete, l, r)
}

// Release implements idem.Store.
func (m *Memory) Release(_ context.Context, l idem.Lease) error {
	return m.apply(idem.EventRelease, l, nil)
}

// Hold implements idem.Store.
func (m *Memory) Hold(_ context.Context, l idem.Lease) error {
	return m.apply(idem.EventHold, l, nil)
}

func (m *Memory) apply(e idem.Event, l idem.Lease, r *idem.Response) error {
	err := m.enter()
	defer m.mu.Unlock()
	if err != nil {
		return m.bug.closed(err)
	}
	if r != nil && m.bug != BugSharesBytes {
		r = r.Clone()
	}
	current := m.at(l.Key)
	next, err := current.Apply(e, m.bug.lease(l, e, current), r, m.now())
	if next != nil {
		m.records[l.Key] = m.bug.record(next, e)
		m.tell(l.Key)
	}
	m.watcher.Applied(e, l, r, err)
	return err
}

// Ping implements idem.Store.
func (m *Memory) Ping(context.Context) error {
	err := m.enter()
	m.mu.Unlock()
	return err
}

// Close implements idem.Store.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}

// Get implements idem.Inspector.
func (m *Memory) Get(_ context.Context, k idem.Key) (idem.Record, error) {
	err := m.enter()
	defer m.mu.Unlock()
	if err != nil {
		return idem.Record{}, err
	}
	r, err := m.at(k).Inspect(m.now())
	m.watcher.Looked(k, &r, err)
	return r, err
}

// Resolve implements idem.Inspector.
func (m *Memory) Resolve(_ context.Context, k idem.Key, owner idem.Owner, r *idem.Response) error {
	return m.apply(idem.ResolveEvent(r), idem.Lease{Key: k, Owner: owner}, r)
}

// Take implements idem.Inspector.
func (m *Memory) Take(_ context.Context, k idem.Key, owner idem.Owner) error {
	return m.apply(idem.EventTake, idem.Lease{Key: k, Owner: owner}, nil)
}

// List implements idem.Inspector.
func (m *Memory) List(_ context.Context, visit func(*idem.Record) bool) error {
	err := m.enter()
	defer m.mu.Unlock()
	if err != nil {
		return err
	}
	for k := range m.records {
		r, err := m.at(k).Inspect(m.now())
		if err != nil {
			continue
		}
		r.Response = nil
		if !visit(&r) {
			return nil
		}
	}
	return nil
}

// Find implements idem.Inspector.
func (m *Memory) Find(ctx context.Context, digest []byte) (key idem.Key, err error) {
	err = m.List(ctx, func(r *idem.Record) bool {
		id := r.Key.ID()
		if bytes.HasPrefix(id[:], digest) {
			key = r.Key
		}
		return key == (idem.Key{})
	})
	if err == nil && key == (idem.Key{}) {
		err = idem.ErrNotFound
	}
	return key, err
}

// Purge implements idem.Inspector.
func (m *Memory) Purge(_ context.Context, k idem.Key) error {
	err := m.enter()
	defer m.mu.Unlock()
	if err != nil {
		return err
	}
	if m.at(k) == nil {
		m.watcher.Purged(k, idem.ErrNotFound)
		return idem.ErrNotFound
	}
	delete(m.records, k)
	m.watcher.Purged(k, nil)
	m.tell(k)
	return nil
}

// Entries implements idem.Registry.
func (m *Memory) Entries(context.Context) ([]idem.Entry, error) {
	err := m.enter()
	defer m.mu.Unlock()
	var all []idem.Entry
	for name, e := range m.entries {
		all = append(all, idem.Entry{Name: name, Text: e.text, Ended: e.until != 0 && e.until <= m.now()})
	}
	return all, err
}

// Enter implements idem.Registry.
func (m *Memory) Enter(_ context.Context, name, text string, keep time.Duration) error {
	err := m.enter()
	defer m.mu.Unlock()
	if err != nil {
		return err
	}
	until := m.now() + keep.Milliseconds()
	if before, ok := m.entries[name]; ok && before.until > until {
		until = before.until
	}
	if before, ok := m.entries[name]; keep == 0 || ok && before.until == 0 {
		until = 0
	}
	m.entries[name] = entry{text, until}
	return nil
}

// Strike implements idem.Registry.
func (m *Memory) Strike(_ context.Context, name string) error {
	err := m.enter()
	defer m.mu.Unlock()
	if err == nil {
		delete(m.entries, name)
	}
	return err
}

// entry is an idem.Entry; until is 0 for never.
type entry struct {
	text  string
	until int64
}
