package rstore

import (
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// grantOf is a claim with the record that it asks for.
func grantOf(t *testing.T) (c idem.Claim, record string) {
	t.Helper()
	c = idem.Claim{Key: orderKey(t), Owner: idem.NewOwner(), TTL: time.Minute, Retention: time.Hour}
	args, err := acquireArgs(&c, 0)
	if err != nil {
		t.Fatal(err)
	}
	return c, args[0]
}

// A purge that found nothing says nothing of a grant that was read before it and may have
// followed it.
func TestAPurgeOfNothingThatIsReadAfterAGrant(t *testing.T) {
	t.Parallel()
	j := newJournal(time.Minute, 1<<20)
	c, record := grantOf(t)
	sent := time.Now().Add(-time.Second)
	j.granted(id{}, &c, record, 1, sent)
	j.purged(id{}, purged{}, sent)
	if all := j.assertions(time.Now()); len(all) != 1 || all[0].state != idem.InProgress {
		t.Errorf("it remembers %+v, want the grant", all)
	}
}

// What an operator did to an attempt stands, also if that is read before its grant.
func TestAnActThatIsReadBeforeItsGrant(t *testing.T) {
	t.Parallel()
	j := newJournal(time.Minute, 1<<20)
	c, record := grantOf(t)
	lease, sent := c.Lease(), time.Now()
	j.settled(id{}, idem.EventResolveComplete, &lease, []byte("response"), sent.Add(time.Millisecond))
	j.granted(id{}, &c, record, 1, sent)
	if all := j.assertions(time.Now()); len(all) != 1 || all[0].state != idem.Completed || !all[0].resolved || all[0].result != "response" {
		t.Errorf("it remembers %+v, want what the operator said", all)
	}
}
