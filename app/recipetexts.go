package app

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// recipeTexts are the recipes of the store's registry, which other processes write
// to as well.
type recipeTexts struct {
	store idem.Registry

	mu    sync.Mutex
	known map[string]string // guarded by mu: texts by the names of their entries
	asked time.Time         // guarded by mu
}

// askRecipesEvery is how soon the registry is read again for a recipe that is not
// known; its records fail closed until then.
const askRecipesEvery = time.Second

// get is asked on the path of requests: the registry is read for a recipe that is
// not known, and at most once a second.
func (t *recipeTexts) get(id idem.Recipe) (text string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if text, ok = t.known[recipeName(id)]; ok || time.Since(t.asked) < askRecipesEvery {
		return text, ok
	}
	t.asked = time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), askNamesFor)
	defer cancel()
	entries, err := t.store.Entries(ctx)
	if err != nil {
		return "", false
	}
	t.known = make(map[string]string)
	for _, e := range entries {
		if strings.HasPrefix(e.Name, recipeEntry) {
			t.known[e.Name] = e.Text
		}
	}
	text, ok = t.known[recipeName(id)]
	return text, ok
}
