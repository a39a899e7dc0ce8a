package storetest_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/idemproxy/idemproxy/idem/storetest"
)

func harness(newStore func() *storetest.Memory) storetest.Harness {
	return storetest.Harness{
		New:    func(testing.TB) storetest.Store { return newStore() },
		Tick:   10 * time.Second,
		Pass:   time.Sleep, // of bubble time
		Second: func(_ testing.TB, first storetest.Store) storetest.Store { return first },
		Sever: func(s storetest.Store) func() {
			return s.(*storetest.Memory).Sever() //nolint:forcetypeassert // ours
		},
	}
}

// The reference keeps its own contract, on a fake clock.
func TestMemory(t *testing.T) {
	t.Parallel()
	for _, c := range storetest.Cases() {
		if c.Name == "Reopen" || c.Name == "RegistryKept" {
			continue // it keeps nothing
		}
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				if err := c.Check(t, harness(storetest.NewMemory)); err != nil {
					t.Errorf("%s: %v", c.Explanation, err)
				}
			})
		})
	}
}

// Each planted bug is found by the clause that forbids it.
func TestSuiteFindsPlantedBugs(t *testing.T) {
	t.Parallel()
	found := map[storetest.Bug]string{
		storetest.BugCompleteByAnyone:    "StaleOwner",
		storetest.BugReleaseByAnyone:     "StaleOwner",
		storetest.BugIgnoresPayload:      "Mismatch",
		storetest.BugIgnoresIdentity:     "Mismatch",
		storetest.BugNeverLapses:         "StaleOwner",
		storetest.BugForgetsOwner:        "Cells",
		storetest.BugSharesBytes:         "Ownership",
		storetest.BugSilentAfterClose:    "Closed",
		storetest.BugUnknownRunsAgain:    "Cells",
		storetest.BugReleaseForgetsCount: "Attempts",
		storetest.BugCompleteUnretained:  "Replay",
		storetest.BugHeldEnds:            "HeldForever",
		storetest.BugIgnoresRecipe:       "Recipes",
		storetest.BugForgetsExpired:      "Horizons",
		storetest.BugResolveUnretained:   "ResolveRetention",
		storetest.BugResolveOfAnyone:     "ResolveFrom",
	}
	for _, bug := range storetest.Bugs() {
		for _, c := range storetest.Cases() {
			if c.Name != found[bug] {
				continue
			}
			synctest.Test(t, func(t *testing.T) {
				broken := func() *storetest.Memory { return storetest.NewPlanted(bug) }
				if c.Check(t, harness(broken)) == nil {
					t.Errorf("bug %d: case %s passes all the same", bug, c.Name)
				}
			})
		}
		if found[bug] == "" {
			t.Errorf("bug %d has no case that finds it", bug)
		}
	}
}
