package proxy

import (
	"testing"

	"github.com/idemproxy/idemproxy/idem"
)

// A resolver is told the scope that the client's request had, in a field that any
// HTTP server takes.
func TestScopesForResolvers(t *testing.T) {
	t.Parallel()
	key, err := idem.ParseKey("k")
	if err != nil {
		t.Fatal(err)
	}
	for scope, want := range map[string]string{
		"": "", "header:a=b": "header:a=b", "header:a=b\x1fhost=c": "header:a=b\thost=c", scopeDerived + "host=c": "host=c",
	} {
		if got := fieldOf(scope); got != want {
			t.Errorf("%q became %q, want %q", scope, got, want)
		}
		k := continuation(continuation(key.InScope(scope), place("http a /")), place("http b /"))
		if got := fieldOf(k.Scope()); got != want {
			t.Errorf("%q, redirected, became %q, want %q", scope, got, want)
		}
	}
}

// Recipes are bounded in memory, checked against their names, and no recipe is
// taken for the release's before.
func TestEarlierRecipes(t *testing.T) {
	t.Parallel()
	asked := 0
	rules := Rules{BindHeaders: []string{"A"}}
	good := rules.recipeOf(nil)
	const smell = `{"v":2,"fingerprint":["smell"],"bind":[]}`
	texts := map[idem.Recipe]string{
		good.id: good.text, 7: good.text /* not its name */, recipeID("{}"): "{}", recipeID(smell): smell,
	}
	r := &recipes{secrets: newSecrets(nil), text: func(id idem.Recipe) (string, bool) {
		asked++
		text, ok := texts[id]
		return text, ok
	}}
	for range 3 {
		if c := r.earlier(good.id); c == nil || c.text != good.text {
			t.Errorf("%v", c)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times for one recipe", asked)
	}
	for _, id := range []idem.Recipe{7, 8, recipeID("{}"), recipeID(smell)} {
		if c := r.earlier(id); c != nil {
			t.Errorf("%d: %v", id, c)
		}
	}
	if good.id == idem.LegacyRecipe || markerRecipe() == idem.LegacyRecipe || markerRecipe() == good.id {
		t.Errorf("recipes %d and %d", good.id, markerRecipe())
	}
	for i := range 3 * maxParsed {
		r.mu.Lock()
		if len(r.parsed) < maxParsed {
			r.parsed[idem.Recipe(i)] = &good
		}
		r.mu.Unlock()
	}
	r.text = func(idem.Recipe) (string, bool) { return good.text, true }
	delete(r.parsed, good.id)
	r.earlier(good.id)
	if len(r.parsed) > maxParsed {
		t.Errorf("%d recipes are kept", len(r.parsed))
	}
}
