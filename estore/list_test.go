package estore_test

import (
	"context"
	"slices"
	"testing"

	"github.com/idemproxy/idemproxy/estore"
	"github.com/idemproxy/idemproxy/idem"
)

// What ends while records are listed is listed once: a command that acts on all of them acts
// on none twice.
func TestListShowsEachOnce(t *testing.T) {
	t.Parallel()
	for _, names := range [][]string{{"a"}, {"b"}, {"a", "b", "c", "d"}} {
		listEndingAll(t, names)
	}
}

// listEndingAll lists records, which all end while the first is shown.
func listEndingAll(t *testing.T, names []string) {
	t.Helper()
	s := open(t, estore.Config{Dir: t.TempDir()})
	ctx := context.Background()
	leases := map[string]idem.Lease{}
	for _, name := range names {
		c := claim(name)
		if _, err := s.Acquire(ctx, c); err != nil {
			t.Fatal(err)
		}
		leases[name] = c.Lease()
	}
	shown := map[string]int{}
	err := s.List(ctx, func(r *idem.Record) bool {
		shown[r.Key.Value()]++
		for name, l := range leases { // the one that is shown, and those that are not yet
			end := func() error { return s.Complete(ctx, l, &idem.Response{Status: 200}) }
			if name == "b" {
				end = func() error { return s.Hold(ctx, l) }
			}
			if err := end(); err != nil {
				t.Error(err)
			}
			delete(leases, name)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if shown[name] != 1 {
			t.Errorf("of %v, %s is listed %d times", names, name, shown[name])
		}
	}
}

// What is on its way to the disk is listed as it stood before: a crash could undo it, and
// nobody else is told of it yet.
func TestP2ListShowsWhatIsDurable(t *testing.T) {
	t.Parallel()
	s, disk := onHanging(t)
	c := claim("k")
	acquire(t, s, c)
	hung, back := disk.syncs.shut()
	defer back()
	ended := make(chan error, 1)
	go func() { ended <- s.Complete(context.Background(), c.Lease(), &idem.Response{Status: 200}) }()
	<-hung
	states := func() (all []idem.State) {
		err := s.List(t.Context(), func(r *idem.Record) bool {
			all = append(all, r.State)
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	for range 1000 { // the engine shows the change at some time after it began to write it
		if got := states(); !slices.Equal(got, []idem.State{idem.InProgress}) {
			t.Fatalf("before the end is on the disk: %v", got)
		}
	}
	back()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if got := states(); !slices.Equal(got, []idem.State{idem.Completed}) {
		t.Errorf("afterwards: %v", got)
	}
}
