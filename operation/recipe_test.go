package operation

import (
	"slices"
	"testing"

	"github.com/idemproxy/idemproxy/idem"
)

// A scope is bared of what this package put before it.
func TestBareScopes(t *testing.T) {
	t.Parallel()
	key, err := idem.ParseKey("k")
	if err != nil {
		t.Fatal(err)
	}
	for scope, want := range map[string]string{
		"": "", "header:a=b": "header:a=b", "header:a=b\x1fhost=c": "header:a=b\x1fhost=c", scopeDerived + "host=c": "host=c",
	} {
		if got := Bare(scope); got != want {
			t.Errorf("%q became %q, want %q", scope, got, want)
		}
		k := Continuation(Continuation(key.InScope(scope), Place("http a /")), Place("http b /"))
		if got := Bare(k.Scope()); got != want {
			t.Errorf("%q, redirected, became %q, want %q", scope, got, want)
		}
	}
}

// Recipes are bounded in memory, checked against their names, and no recipe is
// taken for the release's before.
func TestEarlierRecipes(t *testing.T) {
	t.Parallel()
	asked := 0
	good := NewRecipe(nil, []string{"X-A", "A", "a"}, "", nil)
	if want := []string{"a", "x-a"}; !slices.Equal(good.Bind, want) {
		t.Errorf("bound by %v, want %v", good.Bind, want)
	}
	const smell = `{"v":2,"fingerprint":["smell"],"bind":[]}`
	texts := map[idem.Recipe]string{
		good.ID: good.Text, 7: good.Text /* not its name */, RecipeID("{}"): "{}", RecipeID(smell): smell,
	}
	r := &Recipes{secrets: NewSecrets(nil), text: func(id idem.Recipe) (string, bool) {
		asked++
		text, ok := texts[id]
		return text, ok
	}}
	for range 3 {
		if c := r.earlier(good.ID); c == nil || c.Text != good.Text {
			t.Errorf("%v", c)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times for one recipe", asked)
	}
	for _, id := range []idem.Recipe{7, 8, RecipeID("{}"), RecipeID(smell)} {
		if c := r.earlier(id); c != nil {
			t.Errorf("%d: %v", id, c)
		}
	}
	if good.ID == idem.LegacyRecipe || markerRecipe() == idem.LegacyRecipe || markerRecipe() == good.ID {
		t.Errorf("recipes %d and %d", good.ID, markerRecipe())
	}
	for i := range 3 * maxParsed {
		r.mu.Lock()
		if len(r.parsed) < maxParsed {
			r.parsed[idem.Recipe(i)] = &good
		}
		r.mu.Unlock()
	}
	r.text = func(idem.Recipe) (string, bool) { return good.Text, true }
	delete(r.parsed, good.ID)
	r.earlier(good.ID)
	if len(r.parsed) > maxParsed {
		t.Errorf("%d recipes are kept", len(r.parsed))
	}
}

// Nobody who meets a recipe that is ready waits for those who have one looked up.
func TestEarlierRecipesThatAreReady(t *testing.T) {
	t.Parallel()
	ready := NewRecipe(nil, []string{"X-A"}, "", nil)
	r := &Recipes{secrets: NewSecrets(nil)}
	r.text = func(id idem.Recipe) (string, bool) {
		if id == ready.ID {
			return ready.Text, true
		}
		return "", r.earlier(ready.ID) == nil // it is ready also while this takes its time
	}
	for _, id := range []idem.Recipe{ready.ID, 8} {
		if c := r.earlier(id); (c != nil) != (id == ready.ID) {
			t.Errorf("%d: %v", id, c)
		}
	}
}
