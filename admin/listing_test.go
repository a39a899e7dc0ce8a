package admin_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/idemproxy/idemproxy/admin"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
)

// shuffled is a store that lists its records as stores do: in no order.
type shuffled struct {
	*storetest.Memory
	records []idem.Record
}

func (s *shuffled) List(_ context.Context, visit func(*idem.Record) bool) error {
	for _, i := range rand.Perm(len(s.records)) {
		if !visit(&s.records[i]) {
			break
		}
	}
	return nil
}

// The oldest come first whatever the limit, and a cursor goes through all, none of them
// twice; of one millisecond there may be several.
func TestListingFromTheOldest(t *testing.T) {
	t.Parallel()
	s := &shuffled{Memory: storetest.NewMemory()}
	for i := range 25 {
		key, _ := idem.ParseKey(fmt.Sprint("k", i))
		s.records = append(s.records, idem.Record{Key: key, State: idem.Unknown, Created: int64(100 + i/5), ReadAt: 1000, Expires: 0})
	}
	o := newOperator(t, s)
	seen, after, last := map[string]bool{}, "", int64(1<<62)
	for pages := 0; ; pages++ {
		status, text := o.ask("GET", "/keys/list?state=unknown&limit=7&after="+after, "")
		var l admin.Listing
		if err := json.Unmarshal([]byte(text), &l); status != 200 || err != nil {
			t.Fatalf("%d %s", status, text)
		}
		for _, r := range l.Keys {
			if seen[r.Key] || r.AgeMS > last {
				t.Errorf("%s: seen before: %v, age %d after %d", r.Key, seen[r.Key], r.AgeMS, last)
			}
			seen[r.Key], last = true, r.AgeMS
		}
		if after = l.Next; !l.More {
			if pages != 3 || after != "" {
				t.Errorf("%d pages, then next %q", pages+1, after)
			}
			break
		}
	}
	if len(seen) != 25 {
		t.Errorf("%d of 25 were listed", len(seen))
	}
	if status, text := o.ask("GET", "/keys/list?after=x", ""); status != 400 {
		t.Errorf("%d %s", status, text)
	}
}

// What a log calls a key is enough to look it up, its scope included.
func TestLookUpByDigest(t *testing.T) {
	t.Parallel()
	o := newOperator(t, storetest.NewMemory())
	key, _ := idem.ParseKey("order-42")
	key = key.InScope("header:x-account=acct 7")
	_, a := o.begin(key)
	defer a.Finish(idem.NothingSent, nil)
	status, text := o.ask("GET", "/keys?digest="+key.String(), "")
	var r admin.Record
	if err := json.Unmarshal([]byte(text), &r); status != 200 || err != nil || r.Key != "order-42" || r.Scope != key.Scope() {
		t.Errorf("%d %s", status, text)
	}
	if status, text := o.ask("GET", "/keys?digest=key:000000000000", ""); status != 404 {
		t.Errorf("%d %s", status, text)
	}
}
