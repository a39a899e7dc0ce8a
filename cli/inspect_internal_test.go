package cli

import (
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/admin"
	"github.com/idemproxy/idemproxy/idem"
)

// Where the backend keeps receipts, nobody has to resolve a key, and inspect does not
// say so.
func TestKeptFor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		state   idem.State
		receipt bool
		want    string
	}{
		{idem.Unknown, false, "ever: it is held until it is resolved\n"},
		{idem.Unknown, true, "until the backend has said what became of it: it is asked again"},
		{idem.InProgress, false, "ever, should its lease lapse: it is then held until it is resolved\n"},
		{idem.InProgress, true, "until its lease lapses, and then until the backend has said what became of it\n"},
	} {
		r := admin.Record{State: c.state.String()}
		if c.receipt {
			r.Receipt = &admin.Receipt{Says: "none"}
		}
		if got := keptFor(&r); !strings.HasPrefix(got, "known for    "+c.want) {
			t.Errorf("%s, receipts %v: %q", c.state, c.receipt, got)
		}
	}
}
