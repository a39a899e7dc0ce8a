package sim_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/recipes"
	"github.com/idemproxy/idemproxy/operation"
	"github.com/idemproxy/idemproxy/proxy"
)

// recipe is a way in which processes compare requests.
type recipe struct {
	fingerprint *operation.Fingerprint
	bind        []string
}

// recipeCount is how many recipes there are: a process that has read some of them has not read
// all.
const recipeCount = 8

// recipesOf are those that processes are set to here. No two requests of a simulation are the
// same by one of them alone.
func recipesOf(t *testing.T) (all []recipe) {
	t.Helper()
	for _, parts := range [][]string{
		{"method", "target", "body"},
		{"method", "target", "json"},
		{"method", "path", "body"},
		{"method", "target", "body", "header:Sim-Tenant"},
	} {
		f, err := operation.ParseFingerprint(parts)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, recipe{f, []string{"Authorization"}}, recipe{f, []string{"Authorization", "Sim-Tenant"}})
	}
	return all
}

// registry is what is wrong with the part of the store that recipes are read from.
type registry uint8

const (
	read    registry = iota
	unread           // it fails at once
	slow             // it answers after a second or so
	unheard          // it fails when the time of who reads is over
)

var registries = [...]string{"answers", "fails", "is slow", "is silent"}

// register is a process's way to the registry, which the product reads. Something may be wrong
// with it.
type register struct {
	p      *process
	mu     sync.Mutex
	is     registry  // guarded by mu, as is unwell
	unwell time.Time // when that was last changed
}

// Entries implements idem.Registry. It takes time.
func (r *register) Entries(ctx context.Context) ([]idem.Entry, error) {
	r.mu.Lock()
	is := r.is
	r.mu.Unlock()
	half := [...]time.Duration{read: time.Millisecond, slow: 600 * time.Millisecond, unheard: storeTimeout / 2}[is]
	time.Sleep(half)
	entries, answers := r.p.w.entered(), is == read || is == slow
	time.Sleep(half)
	if err := ctx.Err(); err != nil || !answers || !r.p.reachesStore() {
		return nil, fmt.Errorf("the way to the registry: %w", idem.ErrUnavailable)
	}
	return entries, nil
}

// Enter implements idem.Registry. The world enters recipes itself: see enter.
func (*register) Enter(context.Context, string, string, time.Duration) error {
	return idem.ErrUnavailable
}

// Strike implements idem.Registry.
func (*register) Strike(context.Context, string) error { return idem.ErrUnavailable }

// unread is proxy.Config.RecipeUnread. Whoever asks may have stood still since the recipe was
// looked for.
func (p *process) unread(id idem.Recipe) bool {
	p.standsStill()
	return p.recipes.Unread(id)
}

// set changes how the registry answers this process.
func (r *register) set(is registry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.is, r.unwell = is, time.Now()
}

// lags says that what others entered may not have been read yet.
func (r *register) lags() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.is != read || !r.unwell.IsZero() && time.Since(r.unwell) < longestLag
}

// longestLag is for how long recipes may be unread when the registry answers again.
const longestLag = 6 * time.Second

// standsStill holds a goroutine up, as a busy machine does now and then.
func (p *process) standsStill() {
	p.w.net.mu.Lock()
	chance := p.w.net.chance("stands still " + p.name)
	p.w.net.mu.Unlock()
	switch chance % 16 {
	case 0, 1, 4, 5:
		time.Sleep(time.Duration(chance>>8) % (1200 * time.Millisecond))
	case 2, 3:
		time.Sleep(time.Duration(chance>>8) % (20 * time.Millisecond))
	}
}

// reachesStore says that nothing is wrong between a process and its store.
func (p *process) reachesStore() bool {
	p.w.net.mu.Lock()
	defer p.w.net.mu.Unlock()
	return p.door.answers() && p.w.net.bad[linkOf(p.name, "redis")] == fair
}

// enter has all processes know by which recipes one is about to make records.
func (w *world) enter(c proxy.Config) {
	plan, err := proxy.PlanOf(&c)
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, text := range plan.Recipes() {
		w.registry[recipes.Name(id)] = text
	}
	w.changed = time.Now()
}

// entered is the registry as it stands.
func (w *world) entered() (all []idem.Entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, text := range w.registry {
		all = append(all, idem.Entry{Name: name, Text: text})
	}
	return all
}
