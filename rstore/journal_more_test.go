package rstore_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// What may have been executed is held after a failover as it was to be before: a lease that
// lapses makes such a key unknown, and frees any other.
func TestP7AFailoverKeepsThatALapsedLeaseHolds(t *testing.T) {
	t.Parallel()
	f := newFailover(t, rstore.Config{})
	holds, frees := claim("holds"), claim("frees")
	holds.HoldOnLapse = true
	holds.TTL, frees.TTL = 3*time.Second, 3*time.Second
	must(t, f.Store, holds)
	must(t, f.Store, frees)
	f.happens(t)
	for c, want := range map[*idem.Claim]idem.Verdict{&holds: idem.VerdictUnknown, &frees: idem.VerdictAcquired} {
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			rival := *c
			rival.Owner = idem.NewOwner()
			out, err := f.elsewhere.Acquire(t.Context(), rival)
			if err != nil || time.Now().After(deadline) {
				t.Fatalf("%s: %v, %v", c.Key.Value(), out.Kind, err)
			}
			if out.Kind == idem.VerdictInProgress {
				continue
			}
			if out.Kind != want {
				t.Errorf("%s: %v, want %v", c.Key.Value(), out.Kind, want)
			}
			break
		}
	}
}

// A lease that is held is not forgotten, however long ago anything was heard of it: a
// request that takes hours is excluded after a failover, too.
func TestP1AFailoverKeepsOldLeases(t *testing.T) {
	t.Parallel()
	f := newFailover(t, rstore.Config{Journal: time.Nanosecond})
	running, done := must(t, f.Store, claim("running")), completed(t, f.Store, "done")
	f.happens(t)
	acquire(t, f.elsewhere, running, idem.VerdictInProgress)
	acquire(t, f.elsewhere, done, idem.VerdictAcquired) // the window is what is promised of the rest
}

// A lease that was renewed goes on after a failover for as long as that said, not as the
// claim did.
func TestP1AFailoverKeepsWhatARenewalSaid(t *testing.T) {
	t.Parallel()
	f := newFailover(t, rstore.Config{})
	c := claim("k")
	c.TTL = 3 * time.Second
	must(t, f.Store, c)
	longer := c.Lease()
	longer.TTL = time.Hour
	if err := f.Renew(t.Context(), []idem.Lease{longer})[0]; err != nil {
		t.Fatal(err)
	}
	f.happens(t)
	if out := acquire(t, f.elsewhere, c, idem.VerdictInProgress); out.Remaining < 30*time.Minute {
		t.Errorf("it goes on for %v, of an hour", out.Remaining)
	}
}

// What cannot be brought to a new primary is told, is left as it is there, and keeps
// nothing else from it.
func TestAFailoverTellsWhatItCannotBring(t *testing.T) {
	t.Parallel()
	f := newFailover(t, rstore.Config{})
	odd, fine := must(t, f.Store, claim("odd")), must(t, f.Store, claim("fine"))
	later := "\x09" + string(make([]byte, 200))
	f.second.Do("SET", f.elsewhere.Name(odd.Key), later)
	f.happens(t)
	f.log.await(t, `"event":"store_unasserted"`)
	f.log.await(t, `"failed":1`)
	acquire(t, f.elsewhere, fine, idem.VerdictInProgress)
	m := f.second.Do("GET", f.elsewhere.Name(odd.Key))
	if text, err := m.ToString(); err != nil || text != later {
		t.Errorf("the record is now %q, %v", text, err)
	}
}

// A record that this release cannot read is none that is not there: whatever is asked about
// it fails, and says why. Only an operator's purge takes it away.
func TestRecordsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"of a later layout": {"\x09" + string(make([]byte, 200)), idem.ErrVersion},
		"of another state":  {"\x02\x09" + string(make([]byte, 200)), idem.ErrCorrupt},
		"cut short":         {"\x02\x01" + string(make([]byte, 20)), idem.ErrCorrupt},
		"of layout 1, cut":  {"\x01\x01" + string(make([]byte, 20)), idem.ErrCorrupt},
		"empty":             {"\x02", idem.ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, rstore.Config{URL: server.URL(), Namespace: name})
			claim := claim("k")
			server.Do("SET", s.Name(claim.Key), c.text)
			ctx, id := t.Context(), claim.Key.ID()
			for what, ask := range map[string]func() error{
				"get":  func() error { _, err := s.Get(ctx, claim.Key); return err },
				"list": func() error { return s.List(ctx, func(*idem.Record) bool { return true }) },
				"find": func() error { _, err := s.Find(ctx, id[:6]); return err },
			} {
				if err := ask(); !errors.Is(err, c.want) {
					t.Errorf("%s: %v, want %v", what, err, c.want)
				}
			}
			if out, err := s.Acquire(ctx, claim); err == nil && (out.Kind == idem.VerdictAcquired || out.Kind == idem.VerdictYours) {
				t.Errorf("the key is %v", out.Kind)
			}
			m := server.Do("GET", s.Name(claim.Key))
			if text, err := m.ToString(); err != nil || text != c.text {
				t.Errorf("the record is now %q, %v", text, err)
			}
			if err := s.Purge(ctx, claim.Key); err != nil {
				t.Errorf("purge: %v", err)
			}
			must(t, s, claim)
		})
	}
}

// broken is a codec that does not work.
type broken struct{ seal, open error }

func (b broken) Seal(_ idem.Key, r *idem.Response) (*idem.Response, error) {
	return &idem.Response{Status: r.Status, Sealed: true, Body: r.Body}, b.seal
}

func (b broken) Open(_ idem.Key, r *idem.Response) (*idem.Response, error) {
	return &idem.Response{Status: r.Status, Body: r.Body}, b.open
}

// What cannot be sealed is not stored, in the open or at all; what cannot be opened is
// given to nobody, and executed by nobody.
func TestACodecThatFails(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	errFails := errors.New("so it was planned")
	ctx, r := context.Background(), &idem.Response{Status: 200, Body: []byte("secret")}

	s := open(t, rstore.Config{URL: server.URL(), Codec: broken{seal: errFails}})
	c := must(t, s, claim("cannot be sealed"))
	if err := s.Complete(ctx, c.Lease(), r); !errors.Is(err, errFails) {
		t.Errorf("complete: %v", err)
	}
	acquire(t, s, c, idem.VerdictInProgress)

	s = open(t, rstore.Config{URL: server.URL(), Codec: broken{open: errFails}})
	c = must(t, s, claim("cannot be opened"))
	if err := s.Complete(ctx, c.Lease(), r); err != nil {
		t.Fatal(err)
	}
	rival := c
	rival.Owner = idem.NewOwner()
	if out, err := s.Acquire(ctx, rival); !errors.Is(err, errFails) || out.Response != nil {
		t.Errorf("acquire: %+v, %v", out, err)
	}
	if record, err := s.Get(ctx, c.Key); !errors.Is(err, errFails) || record.Response != nil {
		t.Errorf("get: %+v, %v", record, err)
	}
}
