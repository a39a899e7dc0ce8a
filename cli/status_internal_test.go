package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/app"
)

// What was counted a while ago is said to be, and the oldest has waited since.
func TestWaitingSaysAsOfWhen(t *testing.T) {
	t.Parallel()
	number := func(f float64) *float64 { return &f }
	const see = " held, of which nobody knows yet whether their requests were executed"
	for _, one := range []struct {
		keys, oldest, counted *float64
		want                  string
	}{
		{nil, nil, nil, "not counted yet"},
		{number(0), number(0), number(1), "no key is held"},
		{number(0), number(0), number(40.5), "no key is held (counted 40s ago)"},
		{number(1), number(60), number(1.9), "1 key" + see + ", the oldest for 1m1s: idemproxy list --state unknown"},
		{number(2), number(60), number(40), "2 keys" + see + ", the oldest for 1m40s (counted 40s ago): idemproxy list --state unknown"},
	} {
		if got := waiting(&app.Status{UnknownKeys: one.keys, UnknownOldestS: one.oldest, UnknownCountedS: one.counted}); got != one.want {
			t.Errorf("%q, want %q", got, one.want)
		}
	}
}

// A lost store is said once, with its time; a check that nothing else tells of is said.
func TestStatusSaysALostStoreOnce(t *testing.T) {
	t.Parallel()
	ready := readiness{Status: "degraded", Checks: map[string]string{"store": "refused", "upstream:pay": "refused", "backend": "ok"}}
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	text := inWords(&ready, &app.Status{Amiss: []app.Amiss{{Event: "store_lost", Since: since, Text: "refused"}}}, since.Add(time.Minute))
	for line, want := range map[string]int{
		"wrong      store_lost since 2026-01-02T03:04:05Z (1m0s ago): refused": 1, "wrong      store: ": 0, "wrong      upstream:pay: refused": 1,
	} {
		if got := strings.Count(text, line); got != want {
			t.Errorf("%q is there %d times, want %d:\n%s", line, got, want, text)
		}
	}
	if text := inWords(&ready, &app.Status{}, since); !strings.Contains(text, "wrong      store: refused") {
		t.Errorf("the check of the store is not said:\n%s", text)
	}
}

// What a check says, and why a backend is left out, comes with since when, as far as it is known.
func TestStatusSaysSinceWhen(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ready := readiness{
		Status: "degraded", Checks: map[string]string{"backend": "refused\ntoo late", "upstream:pay": "refused"},
		Since: map[string]time.Time{"backend": since},
	}
	text := inWords(&ready, &app.Status{Backends: []app.BackendStatus{
		{Backend: "a:1", DownSince: &since, Why: "reset"}, {Backend: "b:1"}, {Backend: "c:1", Up: true},
	}}, since.Add(3*time.Minute))
	for _, want := range []string{
		"wrong      backend since 2026-01-02T03:04:05Z (3m0s ago) or earlier: refused; too late\n",
		"wrong      upstream:pay: refused\n",
		"wrong      backend a:1 gets no requests since 2026-01-02T03:04:05Z (3m0s ago): reset\n",
		"wrong      backend b:1 gets no requests\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not said:\n%s", want, text)
		}
	}
	if strings.Contains(text, "c:1") {
		t.Errorf("c:1 is up:\n%s", text)
	}
}
