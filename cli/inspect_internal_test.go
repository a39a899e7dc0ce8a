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

// A response that was too large to keep is not shown as an empty one that is replayed.
func TestInspectOfAResponseThatIsNotKept(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	r := admin.Record{Key: "order-1", State: idem.Completed.String(), Status: 201, BodyOmitted: true, ExpiresInMS: 1000}
	if err := printRecord(&b, &r); err != nil {
		t.Fatal(err)
	}
	if got := b.String(); !strings.Contains(got, "response     201, too large to keep (max_response_body): retries get 409") || strings.Contains(got, "replayed for") {
		t.Errorf("got:\n%s", got)
	}
}
