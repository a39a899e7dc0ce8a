package recipes

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// Texts are the recipes of the store's registry, which other processes write
// to as well.
type Texts struct {
	store idem.Registry

	mu    sync.Mutex
	known map[string]string // guarded by mu: texts by the names of their entries
	asked time.Time         // guarded by mu: when the last reading ended
	// sought are the recipes that were asked for in vain; true: the registry was read since,
	// and does not have them. Guarded by mu.
	sought  map[idem.Recipe]bool
	reading chan struct{} // guarded by mu: closed when the reading that is under way ends; nil: none is
}

// New are those of a registry, which is read when somebody asks.
func New(store idem.Registry) *Texts { return &Texts{store: store, sought: map[idem.Recipe]bool{}} }

// prefix is what the names of recipes begin with in a registry.
const prefix = "recipe:"

// Name is what the entry of a recipe is called in a registry.
func Name(id idem.Recipe) string { return fmt.Sprintf("%s%08x", prefix, uint32(id)) }

// mostSought bounds the names that are kept, of which only damaged records have many.
const mostSought = 1000

// askRecipesEvery is how soon the registry is read again for a recipe that is not
// known; its records fail closed until then.
const askRecipesEvery = time.Second

// readFor is for how long the registry is read at most.
const readFor = 5 * time.Second

// Get is asked on the path of requests: the registry is read for a recipe that is
// not known, and at most once a second. Those who come meanwhile wait for that, unless
// theirs is known, and do not read it again.
func (t *Texts) Get(id idem.Recipe) (text string, ok bool) {
	t.mu.Lock()
	if text, ok = t.known[Name(id)]; ok {
		t.mu.Unlock()
		return text, true
	}
	if _, asked := t.sought[id]; !asked {
		t.sought[id] = false // until the next reading
	}
	reading, recent := t.reading, time.Since(t.asked) < askRecipesEvery
	if reading == nil && !recent {
		t.reading = make(chan struct{})
	}
	t.mu.Unlock()
	switch {
	case reading != nil:
		<-reading
	case recent:
		return "", false
	default:
		t.read()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	text, ok = t.known[Name(id)]
	return text, ok
}

// read reads the registry, and ends the reading that its caller has said to be under way.
func (t *Texts) read() {
	before := t.before()
	ctx, cancel := context.WithTimeout(context.Background(), readFor)
	defer cancel()
	entries, err := t.store.Entries(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.reading)
	t.reading, t.asked = nil, time.Now()
	if err != nil {
		return
	}
	t.known = make(map[string]string)
	for _, e := range entries {
		if strings.HasPrefix(e.Name, prefix) {
			t.known[e.Name] = e.Text
		}
	}
	for _, one := range before {
		t.sought[one] = true
	}
}

// before are the recipes that were asked for before a reading. What is asked for while it
// goes on may have been entered since.
func (t *Texts) before() []idem.Recipe {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.sought) >= mostSought {
		t.sought = map[idem.Recipe]bool{}
	}
	return slices.Collect(maps.Keys(t.sought))
}

// Unread says of a recipe that Get did not know that the registry may have it: it could not
// be read, or not again so soon. A recipe is entered before any record is made by it, so one
// that was asked for before the registry was read, and is not there, is known to nobody. It
// may also have been read since, so who is told that it is not unread asks Get once more.
func (t *Texts) Unread(id idem.Recipe) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.sought[id]
}
