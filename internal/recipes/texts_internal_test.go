package recipes

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// slowRegistry does not answer before its asker has no more patience, once it is told so.
type slowRegistry struct {
	idem.Registry
	entries []idem.Entry
	hangs   bool
	read    int
}

func (r *slowRegistry) Entries(ctx context.Context) ([]idem.Entry, error) {
	r.read++ // one at a time
	if !r.hangs {
		return r.entries, nil
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// Requests that meet a recipe which is known do not wait for those that have the registry
// read, and of the latter all wait for one reading, not one after another.
func TestOneReadingForAllRecipes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &slowRegistry{entries: []idem.Entry{{Name: Name(1), Text: "one"}}}
		texts := New(r)
		if text, ok := texts.Get(1); text != "one" || !ok {
			t.Fatalf("%q, %v", text, ok)
		}
		time.Sleep(askRecipesEvery)
		r.hangs = true
		begun := time.Now()
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				id := idem.Recipe(100 + i)
				if text, ok := texts.Get(id); ok || !texts.Unread(id) {
					t.Errorf("%d: %q, %v, unread %v", id, text, ok, texts.Unread(id))
				}
			})
		}
		synctest.Wait() // they wait
		if text, ok := texts.Get(1); text != "one" || !ok || time.Since(begun) > 0 {
			t.Errorf("%q, %v after %v", text, ok, time.Since(begun))
		}
		if all.Wait(); time.Since(begun) != readFor || r.read != 2 {
			t.Errorf("%d readings in %v", r.read, time.Since(begun))
		}
	})
}

// What was asked for while the registry was read may have been entered since that began: it
// is not said that nobody has it. Who waited has what the reading brought.
func TestWhoWaitsForAReadingHasIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &slowRegistry{}
		for id := range idem.Recipe(20) {
			r.entries = append(r.entries, idem.Entry{Name: Name(id), Text: fmt.Sprint(id)})
		}
		begins, goesOn := make(chan struct{}), make(chan struct{})
		texts := New(heldRegistry{r, begins, goesOn})
		var all sync.WaitGroup
		ask := func(id idem.Recipe, has, unread bool) {
			all.Go(func() {
				text, ok := texts.Get(id)
				if ok != has || has && text != fmt.Sprint(id) || !has && texts.Unread(id) != unread {
					t.Errorf("%d: %q, %v, unread %v", id, text, ok, texts.Unread(id))
				}
			})
		}
		ask(100, false, false)
		<-begins
		for id := range idem.Recipe(20) {
			ask(id, true, false)
		}
		ask(101, false, true)
		synctest.Wait()
		close(goesOn)
		all.Wait()
	})
}

// What a request did not find, and another request's reading brings just then, is found by
// who asks again.
func TestWhatAReadingBringsIsNotUnknown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &slowRegistry{}
		texts := New(r)
		if _, ok := texts.Get(1); ok || texts.Unread(1) {
			t.Fatal("it is not there, and that is known")
		}
		r.entries = []idem.Entry{{Name: Name(2), Text: "two"}}
		if _, ok := texts.Get(2); ok {
			t.Fatal("the registry was read again so soon")
		}
		time.Sleep(askRecipesEvery)
		if _, ok := texts.Get(3); ok || r.read != 2 { // another request
			t.Fatalf("%d readings", r.read)
		}
		if _, ok := texts.Get(2); texts.Unread(2) || !ok {
			t.Error("it was read, and is not found")
		}
	})
}

// heldRegistry says when it is read, and then waits.
type heldRegistry struct {
	*slowRegistry
	begins, goesOn chan struct{}
}

func (h heldRegistry) Entries(ctx context.Context) ([]idem.Entry, error) {
	h.begins <- struct{}{}
	<-h.goesOn
	return h.slowRegistry.Entries(ctx)
}
