package proxy_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/proxy"
)

// Where a 202 says to ask, its client is told what became of its key, whichever settings
// the record was made by and whichever those are that answer.
func TestAsyncAfterAChangeOfRecipe(t *testing.T) {
	t.Parallel()
	const host = "Host: a.example"
	store := storetest.NewMemory()
	before := newAsyncRig(t, sharing(t, store))
	after := newAsyncRig(t, sharing(t, store), byBodyAlone(t), knowing(before.server.RecipeTexts()))
	t.Cleanup(func() { close(before.let) })

	first := before.accepted("k", "x", host)
	<-before.arrived
	again := after.accepted("k", "x", host) // its first answer may have got lost
	if again != first {
		t.Errorf("one attempt has two places: %s and %s", first, again)
	}
	for name, where := range map[string]string{"the first": first, "the second": again} {
		if got := after.do(http.MethodGet, where, "", "", host); got.StatusCode != http.StatusOK {
			t.Errorf("%s place, in progress: %d %q", name, got.StatusCode, got.body)
		}
	}
	before.let <- "made"
	<-before.ended
	for name, where := range map[string]string{"the first": first, "the second": again} {
		if got := after.do(http.MethodGet, where+"&show=response", "", "", host); got.StatusCode != http.StatusCreated || got.body != "made" {
			t.Errorf("%s place, executed: %d %q", name, got.StatusCode, got.body)
		}
	}
}

// vacating is a store whose record of another recipe has gone by the time that it is
// compared.
type vacating struct{ *storetest.Memory }

func (v *vacating) Acquire(ctx context.Context, c idem.Claim) (idem.Outcome, error) {
	out, err := v.Memory.Acquire(ctx, c)
	if out.Kind == idem.VerdictOtherRecipe {
		err = v.Purge(ctx, c.Key)
	}
	return out, err
}

// What begins under the recipe of a record that has gone meanwhile is asked about by that.
func TestAsyncByTheRecipeOfWhatIsGone(t *testing.T) {
	t.Parallel()
	const host = "Host: a.example"
	store := storetest.NewMemory()
	engine := idem.NewEngine(idem.Config{Store: &vacating{store}})
	before := newAsyncRig(t, sharing(t, store))
	after := newAsyncRig(t, byBodyAlone(t), knowing(before.server.RecipeTexts()), func(c *proxy.Config) { c.Engine = engine })
	t.Cleanup(func() { close(before.let); close(after.let) })

	before.accepted("k", "x", host)
	<-before.arrived
	where := after.accepted("k", "x", host)
	<-after.arrived
	after.ask(where, host)
	before.let <- "too late"
	after.let <- "made"
	<-after.ended
	if d, _ := after.ask(where, host); d.State != "executed" {
		t.Errorf("%+v", d)
	}
	<-before.ended
}

// byBodyAlone makes records by another recipe than the default's.
func byBodyAlone(t *testing.T) func(*proxy.Config) {
	t.Helper()
	return func(c *proxy.Config) { c.Fingerprint = mustFingerprint(t, "method", "path", "body") }
}
