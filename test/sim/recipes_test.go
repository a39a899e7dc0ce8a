package sim_test

import (
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
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

// reader is what a process has read of the recipes that others made records by. It is read
// once a second at most. Those who come during a reading wait for that.
type reader struct {
	p       *process
	mu      sync.Mutex
	known   map[idem.Recipe]string // guarded by mu, as all below
	asked   time.Time
	reading chan struct{}
	sought  map[idem.Recipe]bool
	is      registry
	unwell  time.Time // when that was last changed
}

func newReader(p *process) *reader { return &reader{p: p, sought: map[idem.Recipe]bool{}} }

// get is proxy.Config.Recipes.
func (r *reader) get(id idem.Recipe) (string, bool) {
	r.mu.Lock()
	if text, is := r.known[id]; is {
		r.mu.Unlock()
		return text, true
	}
	if _, is := r.sought[id]; !is {
		r.sought[id] = false
	}
	reading, recent := r.reading, !r.asked.IsZero() && time.Since(r.asked) < time.Second
	if reading == nil && !recent {
		r.reading = make(chan struct{})
	}
	r.mu.Unlock()
	switch {
	case reading != nil:
		<-reading
	case recent:
		return "", false
	default:
		r.read()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	text, is := r.known[id]
	return text, is
}

// read reads the registry, which takes time.
func (r *reader) read() {
	r.mu.Lock()
	before, is := slices.Collect(maps.Keys(r.sought)), r.is
	r.mu.Unlock()
	half := [...]time.Duration{read: time.Millisecond, slow: 600 * time.Millisecond, unheard: storeTimeout / 2}[is]
	time.Sleep(half)
	entries, answers := r.p.w.entered(), is == read || is == slow
	time.Sleep(half)
	answers = answers && r.p.reachesStore()
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.reading)
	r.reading, r.asked = nil, time.Now()
	if !answers {
		return
	}
	r.known = entries
	for _, one := range before {
		r.sought[one] = true
	}
}

// unread is proxy.Config.RecipeUnread. Whoever asks may have stood still since get was called.
func (r *reader) unread(id idem.Recipe) bool {
	r.p.standsStill()
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.sought[id]
}

// set changes how the registry answers this process.
func (r *reader) set(is registry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.is, r.unwell = is, time.Now()
}

// lags says that what others entered may not have been read yet.
func (r *reader) lags() bool {
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
	case 0, 1:
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
	maps.Copy(w.registry, plan.Recipes())
	w.changed = time.Now()
}

// entered is the registry as it stands.
func (w *world) entered() map[idem.Recipe]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.registry)
}
