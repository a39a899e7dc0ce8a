package idem_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/golden"
)

// TestStatesDocument keeps docs/reference/states.md in step with the table.
func TestStatesDocument(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("# States and transitions\n\n" +
		"Printed from `idem.Transitions` by `make docs`; do not edit. Each row says: if a key is in this state,\n" +
		"and this call of the store comes from this owner, with this payload, then the key is in that state afterwards, and the\n" +
		"store answers this. `holder` shows the owner token of the lease; `stranger` does not. An operator resolves as the holder,\n" +
		"with the token that was shown, or without one for whichever attempt is unknown. An empty payload means that the\n" +
		"record has another recipe, so the hashes cannot be compared. `lapsed` is an in-progress record whose lease has run out\n" +
		"under `on_ambiguous: release`; under `hold` such a record is `unknown`.\n\n" +
		"| in | event | by | payload | then in | answer |\n| --- | --- | --- | --- | --- | --- |\n")
	who := map[idem.Who]string{idem.Anyone: "anyone", idem.Holder: "holder", idem.Stranger: "stranger"}
	same := map[idem.Same]string{idem.AnyPayload: "any", idem.SamePayload: "same", idem.OtherPayload: "other"}
	for _, c := range idem.Transitions() {
		fmt.Fprintf(&b, "| %v | %v | %s | %s | %v | %v |\n", c.From, c.Event, who[c.Who], same[c.Same], c.To, c.Verdict)
	}
	b.WriteString("\n## What becomes of a response\n\n| status | |\n| --- | --- |\n")
	names := map[idem.Disposition]string{
		idem.Keep: "kept: retries get it", idem.TryAgain: "passed on, and the key released: the backend did nothing",
		idem.Ambiguous: "passed on; the key follows `on_ambiguous`",
	}
	last := (*idem.Statuses)(nil).Of(200)
	from := 200
	for status := 201; status <= 600; status++ {
		if status < 600 && (*idem.Statuses)(nil).Of(status) == last {
			continue
		}
		label := fmt.Sprintf("%d to %d", from, status-1)
		if from == status-1 {
			label = fmt.Sprint(from)
		}
		fmt.Fprintf(&b, "| %s | %s |\n", label, names[last])
		if status < 600 {
			from, last = status, (*idem.Statuses)(nil).Of(status)
		}
	}
	golden.Check(t, "../docs/reference/states.md", b.String())
}
