package idem_test

import (
	"testing"

	"github.com/idemproxy/idemproxy/idem"
)

// The table answers for every combination, so that no store meets a gap.
func TestTransitionsAreTotal(t *testing.T) {
	t.Parallel()
	for state := idem.Absent; state <= idem.Lapsed; state++ {
		for event := idem.EventAcquire; event <= idem.EventResolveRetry; event++ {
			for _, who := range []idem.Who{idem.Holder, idem.Stranger} {
				for _, same := range []idem.Same{idem.SamePayload, idem.OtherPayload} {
					if !covered(state, event, who, same) {
						t.Errorf("no cell for %v, %v, who %d, same %d", state, event, who, same)
					}
				}
			}
		}
	}
}

func covered(s idem.State, e idem.Event, w idem.Who, p idem.Same) bool {
	for _, c := range idem.Transitions() {
		if c.From == s && c.Event == e && (c.Who == idem.Anyone || c.Who == w) &&
			(c.Same == idem.AnyPayload || c.Same == p) {
			return true
		}
	}
	return false
}

// What the promises forbid is in no cell.
func TestTransitionsKeepThePromises(t *testing.T) {
	t.Parallel()
	for _, c := range idem.Transitions() {
		stranger := c.Who != idem.Holder
		operator := c.Event == idem.EventResolveComplete || c.Event == idem.EventResolveRetry
		switch {
		case c.From == idem.InProgress && c.To != idem.InProgress && stranger:
			t.Errorf("P1: somebody else ends a running attempt: %+v", c)
		case c.From == idem.Completed && c.To != idem.Completed:
			t.Errorf("P2: a stored response is lost: %+v", c)
		case c.Same == idem.OtherPayload && c.Verdict != idem.VerdictMismatch:
			t.Errorf("P3: another payload gets %v: %+v", c.Verdict, c)
		case c.From == idem.Unknown && c.To != idem.Unknown && stranger && !operator:
			t.Errorf("P7: an unknown key is freed by a stranger: %+v", c)
		}
	}
}

func TestEveryNameIsSpelled(t *testing.T) {
	t.Parallel()
	for v := idem.VerdictAcquired; v <= idem.VerdictNotUnknown; v++ {
		if v.String() == "invalid" {
			t.Errorf("verdict %d has no name", v)
		}
	}
	for s := idem.Absent; s <= idem.Lapsed; s++ {
		if s.String() == "invalid" {
			t.Errorf("state %d has no name", s)
		}
	}
	for e := idem.EventAcquire; e <= idem.EventResolveRetry; e++ {
		if e.String() == "invalid" {
			t.Errorf("event %d has no name", e)
		}
	}
}

func TestDispositionOf(t *testing.T) {
	t.Parallel()
	want := map[int]idem.Disposition{
		200: idem.Keep, 201: idem.Keep, 204: idem.Keep, 301: idem.Keep, 304: idem.Keep,
		400: idem.Keep, 404: idem.Keep, 409: idem.Keep, 422: idem.Keep, 500: idem.Keep, 501: idem.Keep,
		408: idem.TryAgain, 425: idem.TryAgain, 429: idem.TryAgain, 503: idem.TryAgain,
		502: idem.Ambiguous, 504: idem.Ambiguous,
	}
	for status, d := range want {
		if got := idem.DispositionOf(status); got != d {
			t.Errorf("status %d: %v, want %v", status, got, d)
		}
	}
}
