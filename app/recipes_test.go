package app_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/app"
	"github.com/idemproxy/idemproxy/caller"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/proxy"
)

// aged is a store whose entries of plans have all ended, once old.
type aged struct {
	*storetest.Memory
	old  atomic.Bool
	asks atomic.Int32
	fail atomic.Bool
}

func newAged() *aged { return &aged{Memory: storetest.NewMemory()} }

func (a *aged) Entries(ctx context.Context) ([]idem.Entry, error) {
	a.asks.Add(1)
	if a.fail.Load() {
		return nil, idem.ErrUnavailable
	}
	all, err := a.Memory.Entries(ctx)
	for i := range all {
		all[i].Ended = a.old.Load() && strings.HasPrefix(all[i].Name, "plan:")
	}
	return all, err
}

// names lists the entries of plans.
func (a *aged) plans(t *testing.T) (all []string) {
	t.Helper()
	entries, err := a.Memory.Entries(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name, "plan:") {
			all = append(all, e.Name)
		}
	}
	slices.Sort(all)
	return all
}

// planned is a plan with a scope, and others that are looked up.
func planned(t *testing.T, scope string, earlier ...string) *proxy.Plan {
	t.Helper()
	c := proxy.Config{Rules: proxy.Rules{Policy: idem.DefaultPolicy()}}
	var err error
	if scope != "" {
		if c.Scope, err = caller.ParseScope([]string{scope}); err != nil {
			t.Fatal(err)
		}
	}
	if c.EarlierScopes, err = caller.ParseEarlierScopes(earlier); err != nil {
		t.Fatal(err)
	}
	p, err := proxy.PlanOf(&c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func started(t *testing.T, store *aged, plan *proxy.Plan) *app.Names {
	t.Helper()
	n := app.NewNames(store, zerolog.Nop())
	if err := n.Start(plan, false); err != nil || n.Admit() != nil {
		t.Fatalf("%v, %v", err, n.Admit())
	}
	return n
}

// put leaves a record in a scope.
func put(t *testing.T, store idem.Store, scope string, change func(*idem.Claim)) idem.Key {
	t.Helper()
	k, err := idem.ParseKey("k")
	if err != nil {
		t.Fatal(err)
	}
	c := idem.Claim{Key: k.InScope(scope), Owner: idem.NewOwner(), Recipe: 7, TTL: time.Hour, Retention: time.Hour}
	change(&c)
	if _, err := store.Acquire(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if !c.HoldOnLapse {
		err = store.Complete(t.Context(), c.Lease(), &idem.Response{Status: 200})
	} else {
		err = store.Hold(t.Context(), c.Lease())
	}
	if err != nil {
		t.Fatal(err)
	}
	return c.Key
}

func hold(c *idem.Claim) { c.HoldOnLapse = true }

// That the store cannot be asked is logged once each time, not at each try.
func TestStoreAwayIsLoggedOnce(t *testing.T) {
	t.Parallel()
	store, logged := newAged(), &log{}
	n := app.NewNames(store, zerolog.New(logged))
	mend := store.Sever()
	if err := n.Start(planned(t, "host"), false); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := n.Settle(); !errors.Is(err, idem.ErrUnavailable) {
			t.Fatalf("%v", err)
		}
	}
	if got := strings.Count(logged.String(), `"names_unchecked"`); got != 1 {
		t.Errorf("%d times: %s", got, logged)
	}
	mend()
	if err := n.Settle(); err != nil {
		t.Fatal(err)
	}
	defer store.Sever()()
	_ = n.Settle()
	if got := strings.Count(logged.String(), `"names_unchecked"`); got != 2 {
		t.Errorf("%d times after another loss: %s", got, logged)
	}
}

// While the store cannot be asked, nothing is executed; when it can be for the
// first time, it is asked before anything is.
func TestStoreAwayAtStart(t *testing.T) {
	t.Parallel()
	store := newAged()
	mend := store.Sever()
	n := app.NewNames(store, zerolog.Nop())
	if err := n.Start(planned(t, "host"), false); err != nil {
		t.Fatalf("a start without a store is refused: %v", err)
	}
	if err := n.Admit(); !errors.Is(err, idem.ErrUnavailable) || !errors.Is(err, idem.ErrRefused) {
		t.Errorf("without a store: %v", err)
	}
	if !n.Legacy(time.Hour) {
		t.Error("a store that cannot be asked is taken to have no records of the release before")
	}
	mend()
	if n.Admit() == nil {
		t.Error("it is open before it was asked")
	}
	if err := n.Settle(); err != nil || n.Admit() != nil {
		t.Errorf("%v, %v", err, n.Admit())
	}
	if got := store.plans(t); len(got) != 1 || got[0] == "plan:v1" {
		t.Errorf("entries: %v", got)
	}

	// Another one, which finds what it would lose when it can ask.
	mend = store.Sever()
	late := app.NewNames(store, zerolog.Nop())
	if err := late.Start(planned(t, "header:a"), false); err != nil {
		t.Fatal(err)
	}
	mend()
	if err := late.Settle(); err == nil {
		t.Fatal("it loses nothing")
	}
	// Not as unavailable, which routes may be open for.
	if err := late.Admit(); err == nil || errors.Is(err, idem.ErrUnavailable) || !strings.Contains(err.Error(), "earlier_scopes: [host]") {
		t.Errorf("with orphans: %v", err)
	}
	if err := late.Change(planned(t, "header:a", "host"), false, func() error { return nil }); err != nil || late.Admit() != nil {
		t.Errorf("after a change that looks it up: %v, %v", err, late.Admit())
	}
}

// A change that is not made leaves no entry, which others would be checked
// against.
func TestChangeNotMade(t *testing.T) {
	t.Parallel()
	store := newAged()
	n := started(t, store, planned(t, ""))
	before := store.plans(t)
	no := errors.New("no")
	if err := n.Change(planned(t, "host", "none"), false, func() error { return no }); !errors.Is(err, no) {
		t.Error(err)
	}
	if err := n.Change(planned(t, "host"), false, func() error { return nil }); err == nil {
		t.Error("it loses records")
	}
	if err := n.Change(planned(t, "host"), true, func() error { return no }); !errors.Is(err, no) {
		t.Errorf("it loses records, as is accepted, and cannot be used: %v", err)
	}
	if got := store.plans(t); !slices.Equal(got, before) {
		t.Errorf("entries: %v, before: %v", got, before)
	}
	mend := store.Sever()
	if err := n.Change(planned(t, ""), false, func() error { return nil }); err != nil {
		t.Errorf("nothing is changed, and the store is asked: %v", err)
	}
	if err := n.Change(planned(t, "host", "none"), false, func() error { return nil }); !errors.Is(err, idem.ErrUnavailable) {
		t.Errorf("names are changed without a store: %v", err)
	}
	mend()
	if n.Admit() != nil {
		t.Error("a change that was not made shuts the store")
	}
}

// A plan that has ended counts as long as there are records of it: those that are
// held, and those that a backend wanted kept for longer than its route.
func TestEndedPlans(t *testing.T) {
	t.Parallel()
	longer := func(c *idem.Claim) { c.Retention = 1000 * time.Hour }
	for _, c := range []struct {
		name, scope string
		change      func(*idem.Claim)
		refused     bool
	}{
		{"nothing", "", nil, false},
		{"held", "host=a", hold, true},
		{"held in another scope", "header:a=b", hold, false},
		{"held by the release before", "host=a", func(c *idem.Claim) { c.HoldOnLapse, c.Recipe = true, idem.LegacyRecipe }, false},
		{"kept for longer", "host=a", longer, true},
		{"kept by settings of since", "host=a", func(*idem.Claim) {}, false},
	} {
		store := newAged()
		started(t, store, planned(t, "host"))
		entry := store.plans(t)
		var key idem.Key
		if c.change != nil {
			key = put(t, store, c.scope, c.change)
		}
		store.old.Store(true)
		n := app.NewNames(store, zerolog.Nop())
		err := n.Start(planned(t, "header:a"), false)
		if (err != nil) != c.refused {
			t.Errorf("%s: %v", c.name, err)
		}
		if struck := !slices.Contains(store.plans(t), entry[0]); struck == c.refused {
			t.Errorf("%s: struck %v", c.name, struck)
		}
		if !c.refused {
			continue
		}
		if err := store.Purge(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		if err := n.Start(planned(t, "header:a"), false); err != nil {
			t.Errorf("%s, and gone: %v", c.name, err)
		}
	}
}

// A plan that has ended is struck by one that names all alike; one that only looks
// names up keeps it, for those to come.
func TestEndedPlansAreTidied(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		then    *proxy.Plan
		entries int
	}{{planned(t, "", "host"), 1}, {planned(t, "host", "none"), 2}} {
		store := newAged()
		started(t, store, func() *proxy.Plan { // the same names as none, kept differently
			p := proxy.Config{Rules: proxy.Rules{Policy: idem.Policy{Retention: time.Minute}}}
			plan, err := proxy.PlanOf(&p)
			if err != nil {
				t.Fatal(err)
			}
			return plan
		}())
		store.old.Store(true)
		started(t, store, c.then)
		if got := store.plans(t); len(got) != c.entries {
			t.Errorf("%v, want %d", got, c.entries)
		}
	}
}

// The release before wrote no plans: its records are looked for as long as there
// may be some, and a store that never had any is not bothered.
func TestLegacyPlan(t *testing.T) {
	t.Parallel()
	store := newAged()
	if n := app.NewNames(store, zerolog.Nop()); n.Legacy(time.Hour) {
		t.Error("an empty store has no such records")
	}
	if got := store.plans(t); len(got) != 0 {
		t.Errorf("an empty store has entries: %v", got)
	}
	key := put(t, store, "a", func(c *idem.Claim) { c.HoldOnLapse, c.Recipe = true, idem.LegacyRecipe })
	n := app.NewNames(store, zerolog.Nop())
	if !n.Legacy(time.Hour) {
		t.Error("there is one")
	}
	started(t, store, planned(t, ""))
	if !app.NewNames(store, zerolog.Nop()).Legacy(time.Hour) {
		t.Error("a second process does not know")
	}
	store.old.Store(true)
	if !n.Legacy(time.Hour) {
		t.Error("what is held is forgotten")
	}
	if err := store.Purge(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	if n.Legacy(time.Hour) || slices.Contains(store.plans(t), "plan:v1") {
		t.Errorf("it does not end: %v", store.plans(t))
	}
	store.old.Store(false)
	if n.Legacy(time.Hour) {
		t.Error("it begins again")
	}
}

// A plan of a later release is none that can be compared with.
func TestUnreadablePlan(t *testing.T) {
	t.Parallel()
	store := newAged()
	if err := store.Enter(t.Context(), "plan:later", `{"v":9}`, time.Hour); err != nil {
		t.Fatal(err)
	}
	n := app.NewNames(store, zerolog.Nop())
	if err := n.Start(planned(t, ""), false); err == nil || !strings.Contains(err.Error(), "--accept-orphans") {
		t.Errorf("%v", err)
	}
	if err := n.Start(planned(t, ""), true); err != nil {
		t.Error(err)
	}
	if got := store.plans(t); slices.Contains(got, "plan:later") {
		t.Errorf("%v", got)
	}
}

// A recipe that another process has entered since is found, and one that nobody
// has is not looked for at every request.
func TestRecipesOfOthers(t *testing.T) {
	t.Parallel()
	store := newAged()
	plan := planned(t, "")
	n := started(t, store, plan)
	for id, want := range plan.Recipes() {
		if text, ok := n.Recipe(id); !ok || text != want {
			t.Errorf("%q, want %q", text, want)
		}
	}
	asks := store.asks.Load()
	for range 100 {
		if text, ok := n.Recipe(7); ok {
			t.Errorf("%q", text)
		}
	}
	if more := store.asks.Load() - asks; more > 1 {
		t.Errorf("the registry was read %d times", more)
	}
}

// What nobody has entered is told apart from what could not be looked up.
func TestRecipesThatCannotBeLookedUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newAged()
		n := started(t, store, planned(t, ""))
		ask := func(id idem.Recipe, wantOK, wantUnread bool) {
			t.Helper()
			_, ok := n.Recipe(id)
			if unread := n.Unread(id); ok != wantOK || !ok && unread != wantUnread {
				t.Errorf("recipe %d: %v, unread: %v; want %v, %v", id, ok, unread, wantOK, wantUnread)
			}
		}
		ask(7, false, false) // the registry was read for it
		ask(8, false, true)  // it may have been entered since
		ask(7, false, false)
		time.Sleep(time.Second)
		ask(8, false, false)
		time.Sleep(time.Second)
		store.fail.Store(true)
		ask(9, false, true)
		store.fail.Store(false)
		ask(9, false, true)
		time.Sleep(time.Second)
		ask(9, false, false)
	})
}
