package rstore

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// A push may name what somebody else has under the prefix, or nothing of this store's: it is
// passed over, whatever its length. A record's name and its response's have the record forgotten.
func TestPushesOfOthersArePassedOver(t *testing.T) {
	t.Parallel()
	k := id{1, 2, 3}
	record := "idem:" + hex.EncodeToString(k[:])
	for name, forgets := range map[string]bool{
		record: true, "idem:r{" + record + "}": true,
		"": false, "i": false, "idem:": false, "idem:r{}": false, "idem:entries": false,
		record + "00": false, record + strings.Repeat("00", 40): false, strings.TrimSuffix(record, "00"): false,
		"idem?" + record[len("idem:"):]: false, record[len("idem:"):]: false,
		"idem:" + strings.Repeat("x", 2*len(k)): false,
	} {
		c := newCache("idem:", 1<<20)
		c.Put(k, c.Ticket(k), &idem.Record{Response: &idem.Response{Status: 200}}, time.Now().Add(time.Hour))
		if c.Get(k) == nil {
			t.Fatal("it is not kept")
		}
		c.forgetName(name)
		if (c.Get(k) == nil) != forgets {
			t.Errorf("%q has the record forgotten: %v, want %v", name, !forgets, forgets)
		}
	}
}
