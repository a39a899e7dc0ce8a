package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/recipes"
	"github.com/idemproxy/idemproxy/proxy"
)

// namesStore is the part of a store that the names of records are kept in, and
// looked for.
type namesStore interface {
	idem.Registry
	List(ctx context.Context, visit func(r *idem.Record) bool) error
}

// names sees to it that no change of settings loses records: it writes into the
// store's registry how this proxy names and compares them, and lets nothing be
// executed before it is known that what others wrote there is found by it.
type names struct {
	store namesStore
	log   zerolog.Logger

	mu     sync.Mutex
	plan   *proxy.Plan // guarded by mu: the one in force
	accept bool        // guarded by mu: orphans are accepted
	told   bool        // guarded by mu: it was logged that the store cannot be asked
	life   string      // guarded by mu: see lifeEntry; empty: not known yet

	shut  atomic.Pointer[error] // written under mu: why nothing may be executed; nil: it may
	texts *recipes.Texts

	assumed atomic.Bool // what legacy said last: the rules in force are made by it
	// again has the rules made anew, since what legacy says has changed.
	again func()
}

// Names of entries: how records are named. How they are compared has those of package recipes.
const (
	planEntry = "plan:"
	// legacyEntry stands for the release that wrote no plans.
	legacyEntry = planEntry + "v1"
)

const (
	// beyond is how much longer than its records a plan is kept: they may be
	// completed after it was last entered, by a request that has not ended yet.
	beyond = 2 * time.Hour
	// enterEvery is how often it is entered anew.
	enterEvery = 30 * time.Minute
	// askNamesFor bounds a look at the registry, lookFor one at all records.
	askNamesFor, lookFor = 5 * time.Second, 5 * time.Minute
)

// Errors of settings.
var (
	// errOrphans: see orphanError.
	errOrphans = errors.New("with these settings, retries of completed or held keys would not be recognised, " +
		"and be executed again or refused")
	// errUnchecked: the store could not be asked yet.
	errUnchecked = fmt.Errorf("%w: %w: it could not be asked yet which records there may be", idem.ErrUnavailable, idem.ErrRefused)
)

func newNames(store namesStore, log zerolog.Logger) *names {
	n := &names{store: store, log: log, texts: recipes.New(store)}
	n.setShut(errUnchecked)
	return n
}

// admit is asked before every new key: nil if it may be executed.
func (n *names) admit() error {
	if why := n.shut.Load(); why != nil {
		return *why
	}
	return nil
}

func (n *names) setShut(why error) {
	if why == nil {
		n.shut.Store(nil)
		return
	}
	n.shut.Store(&why)
}

// start puts the first plan in force. An error means that it loses records. A store
// that cannot be asked is no error: until it can be, admit says no, and run asks.
func (n *names) start(plan *proxy.Plan, accept bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.plan, n.accept = plan, accept
	if err := n.settle(); errors.Is(err, errOrphans) {
		return err
	}
	return nil
}

// settle checks the plan in force. It is called with mu held.
func (n *names) settle() error {
	entry, err := n.enter(n.plan, n.accept)
	entry.keep()
	switch {
	case err == nil && n.admit() != nil:
		n.log.Info().Str("event", "names_checked").Msg("the store's records are found by these settings")
	case err != nil && !errors.Is(err, errOrphans):
		if !n.told { // once, not each second
			n.log.Warn().Str("event", "names_unchecked").Err(err).
				Msg("requests with keys are refused until the store says which records there may be")
		}
		err = fmt.Errorf("%w: %w", errUnchecked, err)
	}
	n.told = errors.Is(err, errUnchecked)
	n.setShut(err)
	return err
}

// change has another plan checked and entered. Then use is called, whose success
// puts it in force; any error leaves everything as it was.
func (n *names) change(plan *proxy.Plan, accept bool, use func() error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var entry entered
	if n.admit() != nil || !n.plan.Same(plan) {
		var err error
		if entry, err = n.enter(plan, accept); err != nil {
			return err
		}
	}
	if err := use(); err != nil {
		entry.undo()
		return err
	}
	entry.keep()
	n.plan, n.accept = plan, accept
	n.setShut(nil)
	return nil
}

// run keeps the entries from ending while there is a process that names by them,
// until ctx ends.
func (n *names) run(ctx context.Context) {
	for {
		wait := enterEvery
		if err := n.admit(); errors.Is(err, idem.ErrUnavailable) {
			wait = time.Second
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		n.mu.Lock()
		if n.admit() != nil {
			if err := n.settle(); errors.Is(err, errOrphans) {
				n.log.Error().Str("event", "orphans").Err(err).Msg("requests with keys are refused until the settings are changed")
			}
		} else if err := n.write(n.plan); err != nil {
			n.log.Warn().Str("event", "names_not_entered").Err(err).Msg("it is tried again; entries last longer than this")
		}
		n.mu.Unlock()
		n.reconsider()
	}
}

// reconsider has the rules made anew once it is known that there are no records of
// the release before, or none any more.
func (n *names) reconsider() {
	n.mu.Lock()
	keep, admits := n.plan.Keep(), n.admit() == nil
	n.mu.Unlock()
	if !admits || n.again == nil {
		return
	}
	if may, err := n.askLegacy(keep); err == nil && may != n.assumed.Load() {
		n.again()
	}
}

// entered is a plan that was entered, and is yet to be used.
type entered struct {
	names *names // nil: nothing was done
	// fresh is the plan's entry, unless it was there before.
	fresh string
	// accepted are the entries whose records it does not find, as the operator
	// accepted, and why.
	accepted map[string]error
}

// keep strikes what is not found any more: the plan is in force.
func (e *entered) keep() {
	for name, why := range e.accepted {
		e.names.log.Warn().Str("event", "orphans_accepted").Err(why).Msg("their keys may be executed again, as accept_orphans says")
		e.names.strike(name)
	}
}

// undo takes the plan back: it is not used.
func (e *entered) undo() {
	if e.fresh != "" {
		e.names.strike(e.fresh)
	}
}

// enter checks a plan against those that there may be records of, and enters it.
// It looks a second time after it has entered: of two processes that start at once,
// one at least sees the other.
func (n *names) enter(plan *proxy.Plan, accept bool) (entered, error) {
	if _, err := n.askLegacy(plan.Keep()); err != nil { // before there is a plan
		return entered{}, err
	}
	before, _, err := n.check(plan, accept)
	if err != nil {
		return entered{}, err
	}
	if err := n.write(plan); err != nil {
		return entered{}, err
	}
	e := entered{names: n}
	if !before {
		e.fresh = entryOf(plan)
	}
	if _, e.accepted, err = n.check(plan, accept); err != nil {
		e.undo()
		return entered{}, err
	}
	return e, nil
}

// write enters the plan and its recipes. A recipe is some hundred bytes and never
// ends: a key may be held by it for ever.
func (n *names) write(plan *proxy.Plan) error {
	ctx, cancel := context.WithTimeout(context.Background(), askNamesFor)
	defer cancel()
	for id, text := range plan.Recipes() {
		if err := n.store.Enter(ctx, recipes.Name(id), text, 0); err != nil {
			return fmt.Errorf("entering how records are compared: %w", err)
		}
	}
	if err := n.store.Enter(ctx, entryOf(plan), plan.Text(), plan.Keep()+beyond); err != nil {
		return fmt.Errorf("entering how records are named: %w", err)
	}
	return nil
}

func (n *names) strike(name string) {
	ctx, cancel := context.WithTimeout(context.Background(), askNamesFor)
	defer cancel()
	if err := n.store.Strike(ctx, name); err != nil {
		n.log.Warn().Str("event", "names_not_struck").Err(err).Str("entry", name).Msg("an entry of the store stays")
	}
}

func (n *names) entries() ([]idem.Entry, error) {
	ctx, cancel := context.WithTimeout(context.Background(), askNamesFor)
	defer cancel()
	entries, err := n.store.Entries(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading how records are named: %w", err)
	}
	return entries, nil
}

// check says whether a plan finds the records of all others, but for those that are
// accepted, and whether it is there already.
func (n *names) check(plan *proxy.Plan, accept bool) (there bool, accepted map[string]error, err error) {
	entries, err := n.entries()
	if err != nil {
		return false, nil, err
	}
	var lost []error
	accepted = map[string]error{}
	for i := range entries {
		e := &entries[i]
		switch {
		case e.Name == entryOf(plan):
			there = true
			continue
		case e.Name == legacyEntry || !strings.HasPrefix(e.Name, planEntry):
			continue
		}
		err := n.checkOne(plan, e)
		switch {
		case errors.Is(err, errOrphans) && accept:
			accepted[e.Name] = err
		case errors.Is(err, errOrphans):
			lost = append(lost, err)
		case err != nil:
			return there, nil, err
		}
	}
	return there, accepted, errors.Join(lost...)
}

// checkOne compares with one entry.
func (n *names) checkOne(plan *proxy.Plan, e *idem.Entry) error {
	earlier, err := proxy.ParsePlan(e.Text)
	if err != nil { // of a later release, whose records may be anywhere
		return fmt.Errorf("%w: %w; run the release that wrote it, or accept it: --accept-orphans", errOrphans, err)
	}
	orphans := plan.Orphans(earlier)
	switch {
	case len(orphans) > 0 && e.Ended:
		if there, err := n.anyOf(orphans, earlier.Keep()); err != nil || there {
			return errors.Join(err, orphanError(orphans, there))
		}
		n.strike(e.Name)
	case len(orphans) > 0:
		return orphanError(orphans, true)
	case e.Ended && plan.Covers(earlier): // whoever is checked against this plan is checked against that one
		n.strike(e.Name)
	}
	return nil
}

// anyOf looks for records that are still there though their plan has ended, since
// they are held, or since a backend asked for more than its route said.
func (n *names) anyOf(orphans []proxy.Orphan, keep time.Duration) (there bool, err error) {
	return n.find(func(r *idem.Record) bool {
		lasting := r.State == idem.Unknown || r.State == idem.InProgress || r.Retention+r.Remember > keep.Milliseconds()
		return lasting && r.Recipe != idem.LegacyRecipe &&
			slices.ContainsFunc(orphans, func(o proxy.Orphan) bool { return o.MayBe(r.Key.Scope()) })
	})
}

func (n *names) find(wanted func(r *idem.Record) bool) (there bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), lookFor)
	defer cancel()
	err = n.store.List(ctx, func(r *idem.Record) bool {
		there = wanted(r)
		return !there
	})
	if err != nil && !there {
		return false, fmt.Errorf("looking for records of earlier settings: %w", err)
	}
	return there, nil
}

// legacy says whether there may be records of the release that wrote no plans, and
// put keys into scopes by their values alone. The first process that finds none
// knows, and enters how long there may be such records.
func (n *names) legacy(keep time.Duration) bool {
	may, err := n.askLegacy(keep)
	if err != nil {
		n.log.Warn().Str("event", "names_unchecked").Err(err).Msg("it is taken that there are records of an earlier release")
	}
	n.assumed.Store(may || err != nil)
	return may || err != nil
}

func (n *names) askLegacy(keep time.Duration) (bool, error) {
	entries, err := n.entries()
	if err != nil {
		return true, err
	}
	planned := false
	for i := range entries {
		switch {
		case entries[i].Name != legacyEntry:
			planned = planned || strings.HasPrefix(entries[i].Name, planEntry)
		case !entries[i].Ended:
			return true, nil
		default: // what is held has no end
			there, err := n.find(func(r *idem.Record) bool { return r.Recipe == idem.LegacyRecipe })
			if err == nil && !there {
				n.strike(legacyEntry)
			}
			return there, err
		}
	}
	if planned {
		return false, nil
	}
	// Of a store without any record, none is taken to be about to come from a proxy of
	// that release: a key would meet others under such names, which do not say whose
	// they are, for as long as they are looked up.
	if there, err := n.find(func(*idem.Record) bool { return true }); err != nil || !there {
		return err != nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), askNamesFor)
	defer cancel()
	if err := n.store.Enter(ctx, legacyEntry, `{"v":1}`, keep+beyond); err != nil {
		return true, fmt.Errorf("entering that there may be records of an earlier release: %w", err)
	}
	return true, nil
}

func entryOf(plan *proxy.Plan) string {
	sum := sha256.Sum256([]byte(plan.Text()))
	return planEntry + hex.EncodeToString(sum[:8])
}
