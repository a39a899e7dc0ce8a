package idem_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/idem/tracetest"
)

// under is a request that is hashed by a recipe as its number says, and by no other than
// those that are known.
func (r *rig) under(recipe idem.Recipe, payload byte, known ...idem.Recipe) idem.Request {
	r.Helper()
	key, err := idem.ParseKey("k")
	if err != nil {
		r.Fatal(err)
	}
	hash := func(by idem.Recipe) idem.Hashes {
		return idem.Hashes{
			Fingerprint: idem.Fingerprint{payload, byte(by)}, Binding: idem.Binding{7, byte(by)}, Hints: idem.Hints{payload, byte(by), 1, 1},
		}
	}
	own := hash(recipe)
	return idem.Request{
		Key: key, Policy: &r.policy, Recipe: recipe, Fingerprint: own.Fingerprint, Binding: own.Binding, Hints: own.Hints,
		Under: func(by idem.Recipe) (idem.Hashes, bool) {
			for _, one := range known {
				if one == by {
					return hash(by), true
				}
			}
			return idem.Hashes{}, false
		},
	}
}

// A record that was made by other settings is compared by those: the same request gets its
// answer, another one is refused, and one that cannot be compared gets neither.
func TestP3ARecordIsComparedByItsOwnRecipe(t *testing.T) {
	t.Parallel()
	bubble(t, func(r *rig) {
		ctx := context.Background()
		_, a, err := r.engine.Begin(ctx, r.under(1, 1))
		if err != nil {
			r.Fatal(err)
		}
		begin := func(q idem.Request) (idem.Verdict, error) {
			out, attempt, err := r.engine.Begin(ctx, q)
			if attempt != nil {
				r.Errorf("recipe %d executes", q.Recipe)
			}
			return out.Kind, err
		}
		bare := r.under(2, 1)
		bare.Under = nil
		compare := func(when string, same idem.Verdict) {
			for _, c := range []struct {
				name string
				q    idem.Request
				want idem.Verdict
				err  error
			}{
				{"the same", r.under(2, 1, 1), same, nil},
				{"another", r.under(2, 2, 1), idem.VerdictMismatch, nil},
				{"who does not know the recipe", r.under(2, 1, 3), 0, idem.ErrRecipe},
				{"who knows none", bare, 0, idem.ErrRecipe},
			} {
				if got, err := begin(c.q); !errors.Is(err, c.err) || got != c.want {
					r.Errorf("%s, %s: %v, %v", c.name, when, got, err)
				}
			}
		}
		compare("in progress", idem.VerdictInProgress)
		a.Finish(idem.Answered, ok())
		compare("completed", idem.VerdictCompleted)
	})
}

// restless is a store whose record is of another recipe each time that it is asked about.
type restless struct {
	*storetest.Memory

	asked int
}

func (s *restless) Acquire(context.Context, idem.Claim) (idem.Outcome, error) {
	s.asked++
	return idem.Outcome{Kind: idem.VerdictOtherRecipe, Recipe: idem.Recipe(s.asked)}, nil
}

// Records that are made by other settings in turn, one after the other, are not followed
// for ever, and nothing is executed.
func TestP3ChangingRecipesAreNotFollowedForEver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &restless{Memory: storetest.NewMemory()}
		r := &rig{T: t, store: store.Memory, counts: &counts{}, policy: idem.DefaultPolicy()}
		r.engine = idem.NewEngine(idem.Config{Store: tracetest.Watch(r.T, store.Memory, store)})
		defer closeWithin(r.engine, time.Second)
		_, a, err := r.engine.Begin(context.Background(), r.under(99, 1, 1, 2, 3, 4, 5, 6, 7))
		if a != nil || !errors.Is(err, idem.ErrRecipe) {
			t.Errorf("begin: %v, %v", a, err)
		}
		if store.asked != 4 {
			t.Errorf("the store was asked %d times, want once and three times more", store.asked)
		}
	})
}

// What is freed is taken by the settings of whoever takes it next.
func TestAFreeKeyHasNoRecipe(t *testing.T) {
	t.Parallel()
	bubble(t, func(r *rig) {
		ctx := context.Background()
		_, a, err := r.engine.Begin(ctx, r.under(1, 1))
		if err != nil {
			r.Fatal(err)
		}
		a.Finish(idem.NothingSent, nil)
		_, a, err = r.engine.Begin(ctx, r.under(2, 2))
		if err != nil || a == nil || a.Number() != 2 {
			r.Fatalf("begin: %v, %v", a, err)
		}
		defer a.Finish(idem.NothingSent, nil)
		if got, _, err := r.engine.Begin(ctx, r.under(1, 2, 2)); err != nil || got.Kind != idem.VerdictInProgress {
			r.Errorf("by the settings before: %v, %v", got.Kind, err)
		}
	})
}
