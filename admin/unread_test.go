package admin_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/admin"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
)

// damaged is a store that has a record which cannot be read, beside the others.
type damaged struct{ *storetest.Memory }

func (d *damaged) List(ctx context.Context, visit func(*idem.Record) bool) error {
	stopped := false
	err := d.Memory.List(ctx, func(r *idem.Record) bool {
		stopped = !visit(r)
		return !stopped
	})
	if err != nil || stopped {
		return err
	}
	var unread idem.Unread
	unread.Add("the odd one", idem.ErrCorrupt)
	return unread.Err()
}

// A record that cannot be read is named, and does not keep an operator from the others.
func TestRecordsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	o := newOperator(t, &damaged{storetest.NewMemory()})
	for _, name := range []string{"a", "b"} {
		_, a := o.begin(key(t, name).InScope("s"))
		a.Finish(idem.Answered, &idem.Response{Status: 200})
	}
	var l admin.Listing
	status, text := o.ask(http.MethodGet, "/keys/list", "")
	if err := json.Unmarshal([]byte(text), &l); err != nil || status != 200 || len(l.Keys) != 2 || !strings.Contains(l.Unread, "the odd one") {
		t.Errorf("a list: %d %s", status, text)
	}
	status, text = o.ask(http.MethodPost, "/keys/purge", `{"scope":"s","confirm":true}`)
	if status == 200 || !strings.Contains(text, "the odd one") || !strings.Contains(text, "2 keys") {
		t.Errorf("a purge of a scope: %d %s", status, text)
	}
	status, text = o.ask(http.MethodGet, "/keys/list", "")
	if !strings.Contains(text, `"keys":[]`) {
		t.Errorf("after the purge: %d %s", status, text)
	}
}
