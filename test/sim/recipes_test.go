package sim_test

import (
	"maps"
	"sync"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/operation"
	"github.com/idemproxy/idemproxy/proxy"
)

// recipes are the two ways in which processes compare requests here. No two requests of a
// simulation are the same by one of them alone.
func recipes(w *world) []*operation.Fingerprint {
	other, err := operation.ParseFingerprint([]string{"method", "target", "json"})
	if err != nil {
		w.t.Fatal(err)
	}
	return []*operation.Fingerprint{nil, other}
}

// reader is what a process has read of the recipes that others made records by. The store's
// registry is always there, but not for who cannot reach it; it is read once a second at most.
type reader struct {
	p      *process
	mu     sync.Mutex
	known  map[idem.Recipe]string // guarded by mu, as all below
	asked  time.Time
	sought map[idem.Recipe]bool
}

func newReader(p *process) *reader { return &reader{p: p, sought: map[idem.Recipe]bool{}} }

// get is proxy.Config.Recipes.
func (r *reader) get(id idem.Recipe) (string, bool) {
	time.Sleep(time.Millisecond) // the store is asked
	reachable := r.p.reachesStore()
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, is := r.sought[id]; !is {
		r.sought[id] = false
	}
	if _, is := r.known[id]; !is && time.Since(r.asked) >= time.Second {
		r.asked = time.Now()
		if reachable {
			r.known = r.p.w.entered()
			for one := range r.sought {
				r.sought[one] = true
			}
		}
	}
	text, ok := r.known[id]
	return text, ok
}

// unread is proxy.Config.RecipeUnread.
func (r *reader) unread(id idem.Recipe) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.sought[id]
}

// reachesStore says that nothing is wrong between a process and its store.
func (p *process) reachesStore() bool {
	way := p.door.is()
	p.w.net.mu.Lock()
	defer p.w.net.mu.Unlock()
	return way == open && p.w.net.bad[linkOf(p.name, "redis")] == fair
}

// enter has all processes know by which recipes one is about to make records.
func (w *world) enter(c proxy.Config) {
	plan, err := proxy.PlanOf(&c)
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	maps.Copy(w.registry, plan.Recipes())
	w.changed = time.Now()
}

// entered is the registry as it stands.
func (w *world) entered() map[idem.Recipe]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.registry)
}
