package app_test

import "testing"

// Every process that shares a store notices that it has lost its records, once each, whichever
// looks first, and whether they name their records alike or not.
func TestEveryProcessNoticesAnEmptiedStore(t *testing.T) {
	t.Parallel()
	store := newAged()
	all := []*looker{
		{t, started(t, store, planned(t, "host"))}, {t, started(t, store, planned(t, "host"))}, {t, started(t, store, planned(t, "host", "none"))},
	}
	for _, n := range all {
		n.sees(false)
		n.sees(false)
	}
	for range 2 {
		entries, err := store.Entries(t.Context())
		if err != nil || len(entries) == 0 {
			t.Fatal(entries, err)
		}
		for _, e := range entries {
			if err := store.Strike(t.Context(), e.Name); err != nil {
				t.Fatal(err)
			}
		}
		for _, n := range all {
			n.sees(true)
			n.sees(false)
		}
		// Who comes afterwards has lost nothing.
		late := &looker{t, started(t, store, planned(t, "host"))}
		late.sees(false)
	}
}

// Who could not enter anew what was lost sees the loss when the store takes it.
func TestAnEmptiedStoreIsSeenThoughItIsAway(t *testing.T) {
	t.Parallel()
	store := newAged()
	n := &looker{t, started(t, store, planned(t, "host"))}
	n.sees(false)
	entries, err := store.Entries(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := store.Strike(t.Context(), e.Name); err != nil {
			t.Fatal(err)
		}
	}
	mend := store.Sever()
	if emptied, err := n.names.Emptied(); err == nil || emptied {
		t.Errorf("%v, %v", emptied, err)
	}
	mend()
	n.sees(true)
	n.sees(false)
}

type looker struct {
	t     *testing.T
	names interface{ Emptied() (bool, error) }
}

func (l *looker) sees(want bool) {
	l.t.Helper()
	if emptied, err := l.names.Emptied(); err != nil || emptied != want {
		l.t.Errorf("emptied %v, %v; want %v", emptied, err, want)
	}
}
