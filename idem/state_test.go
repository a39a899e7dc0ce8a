package idem_test

import (
	"errors"
	"testing"

	"github.com/idemproxy/idemproxy/idem"
)

// The table answers for every combination, so that no store meets a gap.
func TestTransitionsAreTotal(t *testing.T) {
	t.Parallel()
	for state := idem.Absent; state <= idem.Expired; state++ {
		for event := idem.EventAcquire; event <= idem.EventTake; event++ {
			for _, who := range []idem.Who{idem.Holder, idem.Stranger} {
				for _, same := range []idem.Same{idem.SamePayload, idem.OtherPayload, idem.OtherRecipe} {
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
		switch {
		case c.From == idem.InProgress && c.To != idem.InProgress && stranger:
			t.Errorf("P1: somebody else ends a running attempt: %+v", c)
		case c.From == idem.Completed && c.To != idem.Completed:
			t.Errorf("P2: a stored response is lost: %+v", c)
		case c.From == idem.Expired && c.To != idem.Expired:
			t.Errorf("P2: a remembered key is forgotten: %+v", c)
		case c.Same == idem.OtherRecipe && c.Verdict != idem.VerdictOtherRecipe:
			t.Errorf("P3: hashes of two recipes are compared: %+v", c)
		case c.Same == idem.OtherPayload && c.Verdict != idem.VerdictMismatch:
			t.Errorf("P3: another payload gets %v: %+v", c.Verdict, c)
		case c.From == idem.Unknown && c.Event == idem.EventTake && c.To != idem.Unknown:
			t.Errorf("P7: an unknown key is freed without a decision: %+v", c)
		case c.From == idem.Unknown && c.To != idem.Unknown && stranger:
			t.Errorf("P7: an unknown key is ended by a stranger: %+v", c)
		}
	}
}

func TestEveryNameIsSpelled(t *testing.T) {
	t.Parallel()
	for v := idem.VerdictAcquired; v <= idem.VerdictExpired; v++ {
		if v.String() == "invalid" {
			t.Errorf("verdict %d has no name", v)
		}
	}
	for s := idem.Absent; s <= idem.Expired; s++ {
		if s.String() == "invalid" {
			t.Errorf("state %d has no name", s)
		}
	}
	for e := idem.EventAcquire; e <= idem.EventTake; e++ {
		if e.String() == "invalid" {
			t.Errorf("event %d has no name", e)
		}
	}
}

func TestStatuses(t *testing.T) {
	t.Parallel()
	want := map[int]idem.Disposition{
		200: idem.Keep, 201: idem.Keep, 204: idem.Keep, 301: idem.Keep, 304: idem.Keep,
		401: idem.TryAgain, 407: idem.TryAgain, 421: idem.TryAgain, 511: idem.TryAgain,
		400: idem.Keep, 403: idem.Keep, 404: idem.Keep, 409: idem.Keep, 422: idem.Keep, 500: idem.Keep, 501: idem.Keep,
		408: idem.TryAgain, 425: idem.TryAgain, 429: idem.TryAgain, 503: idem.TryAgain,
		502: idem.Ambiguous, 504: idem.Ambiguous,
	}
	parsed, err := idem.ParseStatuses(idem.DefaultStatuses())
	if err != nil {
		t.Fatal(err)
	}
	for status, d := range want {
		for name, s := range map[string]*idem.Statuses{"nil": nil, "the default, parsed": parsed} {
			if got := s.Of(status); got != d {
				t.Errorf("%s: status %d: %v, want %v", name, status, got, d)
			}
		}
	}
}

// A status beats its class; what cannot be is refused.
func TestParseStatuses(t *testing.T) {
	t.Parallel()
	s, err := idem.ParseStatuses([]string{"5xx", "404"}, []string{"4XX", "500"})
	if err != nil {
		t.Fatal(err)
	}
	for status, d := range map[int]idem.Disposition{
		200: idem.Keep, 399: idem.Keep, 400: idem.Ambiguous, 404: idem.TryAgain, 499: idem.Ambiguous,
		500: idem.Ambiguous, 501: idem.TryAgain, 599: idem.TryAgain, 999: idem.Keep, 99: idem.Keep,
	} {
		if got := s.Of(status); got != d {
			t.Errorf("status %d: %v, want %v", status, got, d)
		}
	}
	for _, bad := range [][2][]string{
		{{"503"}, {"503"}}, {{"5xx"}, {"5xx"}}, {{"1xx"}, nil}, {{"6xx"}, nil}, {{"199"}, nil}, {nil, {"600"}}, {nil, {"x"}}, {{""}, nil},
	} {
		if _, err := idem.ParseStatuses(bad[0], bad[1]); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestKeyFormats(t *testing.T) {
	t.Parallel()
	const uuid, ulid = "0b4e1c1e-7b1a-4E53-9d5a-0f0f6cf3f0aa", "01ARZ3NDEKTSV4RRFFQ69G5FAV"
	for _, c := range []struct {
		format   string
		least    int
		ok, fail []string
	}{
		{"any", 1, []string{"x", uuid}, nil},
		{"any", 20, []string{uuid}, []string{"x", "nineteen characters"}},
		{"uuid", 1, []string{uuid}, []string{"x", uuid + "0", uuid[1:], "{" + uuid + "}", ulid}},
		{"ulid", 1, []string{ulid}, []string{"81ARZ3NDEKTSV4RRFFQ69G5FAV", ulid[1:], "01ARZ3NDEKTSV4RRFFQ69G5FAU"}},
		{"order-[0-9]+|x", 1, []string{"order-7", "x"}, []string{"order-", "an order-7", "order-7x", "xx"}},
	} {
		f, err := idem.ParseKeyFormat(c.format, c.least)
		if err != nil {
			t.Fatal(err)
		}
		for i, value := range append(c.ok, c.fail...) {
			k, err := idem.ParseKey(value)
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Check(k); (err == nil) != (i < len(c.ok)) || err != nil && !errors.Is(err, idem.ErrKeyFormat) {
				t.Errorf("%s, %d: %q: %v", c.format, c.least, value, err)
			}
		}
	}
	for format, least := range map[string]int{"(": 1, "any": 0, "uuid": 256, "UUID": 1, "none": 1, `a\.b`: 1} {
		if _, err := idem.ParseKeyFormat(format, least); err == nil {
			t.Errorf("%q, %d was taken", format, least)
		}
	}
}
