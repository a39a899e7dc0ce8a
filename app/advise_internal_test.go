package app

import (
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/proxy"
)

// Times are proposed to be longer where what was seen is longer, and never shorter.
func TestAdviseTimes(t *testing.T) {
	t.Parallel()
	rules := config.Default().Rules
	hours := func(n float64) float64 { return n * 3_600_000 }
	for _, c := range []struct {
		name              string
		executed, retried proxy.Spread
		expired           uint64
		lease, retention  string
	}{
		{"nothing", proxy.Spread{}, proxy.Spread{}, 0, "", ""},
		{"short", proxy.Spread{Count: 9, LongestMS: 12}, proxy.Spread{Count: 3, LongestMS: 5000}, 0, "", ""},
		{"long", proxy.Spread{Count: 9, LongestMS: 41_200}, proxy.Spread{Count: 3, LongestMS: hours(13)}, 0, "1m0s", "30h0m0s"},
		{"longer", proxy.Spread{Count: 9, LongestMS: hours(1)}, proxy.Spread{Count: 3, LongestMS: hours(40)}, 2, "2h0m0s", "96h0m0s"},
	} {
		seen := &proxy.Observations{Executed: c.executed, Retried: c.retried, Would: map[string]uint64{"expired": c.expired}}
		if got := adviseLease(&rules, seen); got.Propose != c.lease || len(got.Why) == 0 {
			t.Errorf("%s: %+v, want lock_ttl %q", c.name, got, c.lease)
		}
		if got := adviseRetention(&rules, seen, time.Hour); got.Propose != c.retention || len(got.Why) == 0 {
			t.Errorf("%s: %+v, want retention %q", c.name, got, c.retention)
		}
	}
}

// Without a retry, nothing is said to stay the same in one.
func TestAdviseBindOfNothing(t *testing.T) {
	t.Parallel()
	rules := config.Default().Rules
	got := adviseBind(&rules, &proxy.Observations{Would: map[string]uint64{"execute": 3}, Callers: map[string]proxy.Telling{"bind": {Present: 3}}})
	if got.Propose != "" || !strings.Contains(strings.Join(got.Why, "\n"), "cannot be told yet") {
		t.Errorf("%+v", got)
	}
}
