package history

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/idem/tracetest"
)

// The checker finds what it is there to find.
func TestPlantedBugs(t *testing.T) {
	t.Parallel()
	planted := func(b storetest.Bug) func() world {
		return func() world { return world{processes: []store{storetest.NewPlanted(b)}} }
	}
	for name, build := range map[string]func() world{
		"complete does not look at the owner":       planted(storetest.BugCompleteByAnyone),
		"release does not look at the owner":        planted(storetest.BugReleaseByAnyone),
		"another host gets the response":            planted(storetest.BugIgnoresPayload),
		"hashes of two recipes are compared":        planted(storetest.BugIgnoresRecipe),
		"what is held is given out":                 planted(storetest.BugUnknownRunsAgain),
		"what is held is forgotten after retention": planted(storetest.BugHeldEnds),
		"nothing is remembered after retention":     planted(storetest.BugForgetsExpired),
		"a resolved key is kept too long":           planted(storetest.BugResolveUnretained),
		"a release forgets the count":               planted(storetest.BugReleaseForgetsCount),
		"a resolve does not look at the owner":      planted(storetest.BugResolveOfAnyone),
		"a resolve that looks and then resolves": func() world {
			return world{processes: []store{&twoStep{Memory: storetest.NewMemory()}}}
		},
		"a release that looks and then purges": func() world {
			return world{processes: []store{&purging{Memory: storetest.NewMemory()}}}
		},
		"a release that frees what became unknown": func() world {
			return world{processes: []store{&freeing{Memory: storetest.NewMemory()}}}
		},
		"a list that shows a key twice": func() world {
			return world{processes: []store{&doubling{Memory: storetest.NewMemory()}}}
		},
		"a purge that finds what is not there": func() world {
			return world{processes: []store{&silent{Memory: storetest.NewMemory()}}}
		},
		"a resolve that asks nobody": func() world {
			return world{processes: []store{&forcing{Memory: storetest.NewMemory()}}}
		},
		"a client library that sends twice":  func() world { return world{processes: []store{&resending{Memory: storetest.NewMemory()}}} },
		"leases by each process's own clock": func() world { return skewedWorld(ttl - time.Millisecond) },
		"a cache that nobody invalidates": func() world {
			m := storetest.NewMemory()
			return world{processes: []store{&caching{Memory: m}, &caching{Memory: m}}, lag: time.Millisecond}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			findsBoth(t, build, unseenInTraces()[name])
		})
	}
}

// unseenInTraces are the bugs that no trace shows, each with the reason.
func unseenInTraces() map[string]string {
	return map[string]string{
		"a list that shows a key twice":   "a trace has no lists",
		"a resolved key is kept too long": "a trace has no time after which something must have ended",
		"a cache that nobody invalidates": "what comes out of the memory of a process is left out around purges",
	}
}

// findsBoth has both checkers, that of answers and that of traces, find what is planted,
// each in one of 300 histories; only the first if there is a reason why no trace shows it.
func findsBoth(t *testing.T, build func() world, unseen string) {
	t.Helper()
	first := firstSeed()
	var byAnswers, byTraces uint64
	for seed := first; seed < first+300 && (byAnswers == 0 || byTraces == 0 && unseen == ""); seed++ {
		history, _, traces := record(build(), seed)
		if byAnswers == 0 && impossible(history, patience) {
			byAnswers = seed - first + 1
		}
		var no *tracetest.NoPathError
		if err := traces.Check(); byTraces == 0 && errors.As(err, &no) {
			byTraces = seed - first + 1
		}
	}
	if byAnswers == 0 || byTraces == 0 && unseen == "" {
		t.Errorf("of 300 histories, the first found by its answers is %d, by its traces %d; 0 is none", byAnswers, byTraces)
	}
	t.Logf("found by the answers of history %d, by the traces of history %d (0: none)", byAnswers, byTraces)
}

// Without their bug the two processes with clocks of their own are sound.
func TestUnplanted(t *testing.T) {
	t.Parallel()
	for range count(30) {
		seed := firstSeed()
		check(t, seed, run(skewedWorld(0), seed), patience)
	}
}

// purging releases for an operator in two steps.
type purging struct{ *storetest.Memory }

func (s *purging) Take(ctx context.Context, k idem.Key, owner idem.Owner) error {
	if r, err := s.Get(ctx, k); err != nil || r.Owner != owner || r.State != idem.InProgress {
		return idem.ErrLeaseLost
	}
	time.Sleep(time.Millisecond)
	return s.Purge(ctx, k)
}

// freeing has an operator's release free what has become unknown since it was looked at.
type freeing struct{ *storetest.Memory }

func (s *freeing) Take(ctx context.Context, k idem.Key, owner idem.Owner) error {
	return s.Release(ctx, idem.Lease{Key: k, Owner: owner})
}

// silent does not say that there was nothing to purge.
type silent struct{ *storetest.Memory }

func (s *silent) Purge(ctx context.Context, k idem.Key) error {
	_ = s.Memory.Purge(ctx, k)
	return nil
}

// doubling shows what ends while it is listed once more.
type doubling struct{ *storetest.Memory }

func (s *doubling) List(ctx context.Context, visit func(*idem.Record) bool) error {
	var running []idem.Key
	err := s.Memory.List(ctx, func(r *idem.Record) bool {
		if r.State == idem.InProgress {
			running = append(running, r.Key.Clone())
		}
		return visit(r)
	})
	time.Sleep(2 * time.Millisecond)
	for _, k := range running {
		if r, err := s.Get(ctx, k); err == nil && r.State == idem.Completed {
			visit(&r)
		}
	}
	return err
}

// forcing resolves what is in progress too.
type forcing struct{ *storetest.Memory }

func (s *forcing) Resolve(ctx context.Context, k idem.Key, owner idem.Owner, r *idem.Response) error {
	before, err := s.Get(ctx, k)
	if err != nil || before.State != idem.InProgress {
		return s.Memory.Resolve(ctx, k, owner, r)
	}
	if r == nil {
		return s.Release(ctx, idem.Lease{Key: k, Owner: before.Owner})
	}
	return s.Complete(ctx, idem.Lease{Key: k, Owner: before.Owner}, r)
}

// twoStep looks whose attempt is unknown, and then resolves whichever it is.
type twoStep struct{ *storetest.Memory }

func (s *twoStep) Resolve(ctx context.Context, k idem.Key, owner idem.Owner, r *idem.Response) error {
	if before, err := s.Get(ctx, k); owner != (idem.Owner{}) && err == nil && before.State == idem.Unknown && before.Owner != owner {
		return idem.ErrLeaseLost
	}
	time.Sleep(time.Millisecond)
	return s.Memory.Resolve(ctx, k, idem.Owner{}, r)
}

// resending sends some acquires a second time, a little later.
type resending struct {
	*storetest.Memory
	n atomic.Int64
}

func (s *resending) Acquire(ctx context.Context, c idem.Claim) (idem.Outcome, error) {
	if s.n.Add(1)%10 == 0 {
		time.AfterFunc(3*time.Millisecond, func() { _, _ = s.Memory.Acquire(ctx, c) })
	}
	return s.Memory.Acquire(ctx, c)
}

// caching keeps completed outcomes for ever.
type caching struct {
	*storetest.Memory
	seen sync.Map
}

func (s *caching) Acquire(ctx context.Context, c idem.Claim) (idem.Outcome, error) {
	type cached struct {
		out   idem.Outcome
		print idem.Fingerprint
	}
	if v, ok := s.seen.Load(c.Key); ok && v.(cached).print == c.Fingerprint { //nolint:forcetypeassert // ours
		out := v.(cached).out //nolint:forcetypeassert // ours
		out.Local = true
		return out, nil
	}
	out, err := s.Memory.Acquire(ctx, c)
	if err == nil && out.Kind == idem.VerdictCompleted {
		s.seen.Store(c.Key, cached{out, c.Fingerprint})
	}
	return out, err
}

// skewed is a store whose leases are measured by the process that asks.
type skewed struct {
	*storetest.Memory // for what is not overridden
	shared            *common
	ahead             time.Duration
}

type common struct {
	mu      sync.Mutex
	begun   time.Time
	records map[idem.Key]*idem.Record // guarded by mu
}

// skewedWorld is two processes, of which one's clock is ahead.
func skewedWorld(ahead time.Duration) world {
	s := &common{begun: time.Now(), records: map[idem.Key]*idem.Record{}}
	return world{processes: []store{
		&skewed{storetest.NewMemory(), s, 0}, &skewed{storetest.NewMemory(), s, ahead},
	}}
}

func (s *skewed) now() int64 { return (time.Since(s.shared.begun) + s.ahead).Milliseconds() + 1 }

func (s *skewed) Acquire(_ context.Context, c idem.Claim) (idem.Outcome, error) {
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	next, out := s.at(c.Key).Acquire(c, s.now())
	if next != nil {
		s.shared.records[next.Key] = next
	}
	return out, nil
}

func (s *skewed) apply(e idem.Event, l idem.Lease, r *idem.Response) error {
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	next, err := s.at(l.Key).Apply(e, l, r, s.now())
	if next != nil {
		s.shared.records[l.Key] = next
	}
	return err
}

func (s *skewed) Complete(_ context.Context, l idem.Lease, r *idem.Response) error {
	return s.apply(idem.EventComplete, l, r)
}

func (s *skewed) Release(_ context.Context, l idem.Lease) error {
	return s.apply(idem.EventRelease, l, nil)
}

func (s *skewed) Hold(_ context.Context, l idem.Lease) error { return s.apply(idem.EventHold, l, nil) }

func (s *skewed) Take(_ context.Context, k idem.Key, owner idem.Owner) error {
	return s.apply(idem.EventTake, idem.Lease{Key: k, Owner: owner}, nil)
}

func (s *skewed) Resolve(_ context.Context, k idem.Key, owner idem.Owner, r *idem.Response) error {
	return s.apply(idem.ResolveEvent(r), idem.Lease{Key: k, Owner: owner}, r)
}

func (s *skewed) Get(_ context.Context, k idem.Key) (idem.Record, error) {
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	return s.at(k).Inspect(s.now())
}

func (s *skewed) Purge(_ context.Context, k idem.Key) error {
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	if s.at(k) == nil {
		return idem.ErrNotFound
	}
	delete(s.shared.records, k)
	return nil
}

// at is called with mu held.
func (s *skewed) at(k idem.Key) *idem.Record {
	if r := s.shared.records[k]; r != nil && !r.Ended(s.now()) {
		return r
	}
	return nil
}
