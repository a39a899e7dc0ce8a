package model_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/idem"
)

// receiptsTable is the part of the model of receipts that is the code's: as table, and
// MOVES, which says whether an event changes a state.
func receiptsTable(attempts int) string {
	var b strings.Builder
	define := func(name string, value int) { fmt.Fprintf(&b, "#define %s %d\n", name, value) }
	vocabulary(define)
	define("ATTEMPTS", attempts)
	transitions(&b)
	b.WriteString("#define MOVES(s, e, w) (false")
	for s, state := range states {
		for e, event := range events {
			for _, who := range []idem.Who{idem.Holder, idem.Stranger} {
				if to, _ := idem.Next(idem.State(s), idem.Event(e), who, idem.SamePayload); to != idem.State(s) {
					fmt.Fprintf(&b, " \\\n    || (s) == %s && (e) == %s && (w) == %d", state, event, who)
				}
			}
		}
	}
	b.WriteString(")\n")
	return b.String()
}

// TestReceipts: none of the assertions of the model of receipts can be violated,
// whatever happens when, and all that can happen does in some run.
func TestReceipts(t *testing.T) {
	t.Parallel()
	more := number(t, "MODEL_ATTEMPTS", 3)
	for _, c := range []struct {
		attempts int
		defines  []string
		never    []string // steps
	}{
		{more, nil, nil},
		{more, []string{"LOSS"}, nil},
		{3, []string{"TWICE"}, nil},
		{3, []string{"LOSS", "TWICE"}, nil},
		{3, []string{"LOSS", "BACK"}, []string{"end"}}, // there is no end of what can happen
		{3, []string{"LOSS", "OPEN"}, nil},
		{more, []string{"NUMBERS"}, nil},
		{3, []string{"NUMBERS", "LOSS"}, nil},
		{more - 1, []string{"NUMBERS", "LOSS", "TWICE"}, nil},
		// No mistake, as long as nothing is forgotten, nothing arrives twice, and all have leases.
		{more, []string{"BUG_NO_UNIQUE"}, []string{"found"}},
	} {
		t.Run(strings.Join(append([]string{"receipts"}, c.defines...), " "), func(t *testing.T) {
			t.Parallel()
			s := check(t, "receipts.pml", receiptsTable(c.attempts), "-O2", c.defines...)
			if s.violated != "" {
				t.Errorf("violated: %s", s.violated)
				return
			}
			if !slices.Equal(s.unreached, c.never) {
				t.Errorf("never happens: %q, want %q", s.unreached, c.never)
			}
			t.Logf("figure: %d attempts, %s states, no violation", c.attempts, s.states)
		})
	}
}

// TestReceiptsSees: each of these mistakes is found, and by the assertion that is there
// for it.
func TestReceiptsSees(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		defines []string
		want    string
	}{
		{[]string{"BUG_LOOK_FIRST"}, "effect[t]"},
		{[]string{"BUG_NO_FENCE"}, "denied[t]"},
		{[]string{"BUG_OUTSIDE"}, "effect"},
		{[]string{"BUG_VOID_ANY"}, "asked[t]"},
		{[]string{"BUG_SETTLE_ANY"}, "releases[owner]"},
		{[]string{"BUG_ANSWER_EARLY"}, "response"},
		{[]string{"BUG_OWN_ONLY"}, "state=="},
		{[]string{"LOSS", "BUG_NO_UNIQUE"}, "effects==1"},
		{[]string{"TWICE", "BUG_NO_UNIQUE"}, "effects==1"},
		{[]string{"OPEN", "BUG_NO_UNIQUE"}, "effects==1"},
		{[]string{"NUMBERS", "LOSS", "BUG_NO_UNIQUE"}, "effects==1"},
		{[]string{"NUMBERS", "LOSS", "BUG_NO_HIGHEST"}, "count>learned"},
		{[]string{"NUMBERS", "LOSS", "STRICT"}, "asked[t]"}, // what tokens are for
	} {
		t.Run(strings.Join(c.defines, " "), func(t *testing.T) {
			t.Parallel()
			attempts := 3
			if slices.Contains(c.defines, "BUG_NO_HIGHEST") {
				attempts = 4 // it shows at the second refusal
			}
			s := check(t, "receipts.pml", receiptsTable(attempts), "-O0", c.defines...)
			if !strings.Contains(s.violated, c.want) {
				t.Errorf("violated: %q, want the assertion about %s", s.violated, c.want)
				return
			}
			t.Logf("figure: found: %s", s.violated)
		})
	}
}
