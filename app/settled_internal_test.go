package app

import (
	"bytes"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/metrics"
	"github.com/idemproxy/idemproxy/proxy"
)

// What became of an unknown key is logged and counted by what it became, whoever said so:
// the backend, or an operator.
func TestResolvedKeysAreCounted(t *testing.T) {
	t.Parallel()
	key, err := idem.ParseKey("k")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		do            func(o *observer)
		line, counted string
		rings         bool
	}{
		"executed": {func(o *observer) { o.resolved(key, true) }, `"event":"key_resolved"`, resolvedCompleted, true},
		"voided":   {func(o *observer) { o.resolved(key, false) }, `"event":"key_resolved"`, resolvedReleased, true},
		"complete": {func(o *observer) { o.audit("127.0.0.1", "complete", key, nil) }, `"event":"operator"`, resolvedCompleted, true},
		"retry":    {func(o *observer) { o.audit("127.0.0.1", "retry", key, nil) }, `"event":"operator"`, resolvedReleased, true},
		"purge":    {func(o *observer) { o.audit("127.0.0.1", "purge", key, nil) }, `"event":"operator"`, "", true},
		"in vain":  {func(o *observer) { o.audit("127.0.0.1", "retry", key, idem.ErrNotUnknown) }, `"event":"operator"`, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			o := newObserver(metrics.New(), zerolog.New(&out))
			c.do(o)
			if text := out.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, c.line) ||
				strings.HasPrefix(c.line, `"event":"key`) && !strings.Contains(text, `"as":"`+c.counted+`"`) {
				t.Errorf("the log is %s", text)
			}
			values := valuesOf(t, o.metrics)
			for _, as := range []string{resolvedCompleted, resolvedReleased} {
				if got, want := values["idemproxy_resolved_total "+as] == 1, as == c.counted; got != want {
					t.Errorf("%s: %v", as, values["idemproxy_resolved_total "+as])
				}
			}
			select {
			case <-o.heldOrResolved:
				if !c.rings {
					t.Error("the store is looked at although nothing has changed")
				}
			default:
				if c.rings {
					t.Error("nobody looks at the store")
				}
			}
		})
	}
}

// A settlement is on the request's line, and only where there was one.
func TestSettlementIsOnTheLine(t *testing.T) {
	t.Parallel()
	for settlement, want := range map[proxy.Settlement]string{
		proxy.NotSettled: "", proxy.SettledExecuted: "executed", proxy.SettledVoided: "voided", proxy.SettledNotYet: "unanswered",
	} {
		t.Run(settlement.String(), func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			o := newObserver(metrics.New(), zerolog.New(&out))
			o.request(&proxy.Report{Outcome: proxy.Executed, Status: 201, Settlement: settlement})
			text := out.String()
			if has := strings.Contains(text, `"settlement"`); has != (want != "") || has && !strings.Contains(text, `"settlement":"`+want+`"`) {
				t.Errorf("the line is %s", text)
			}
			values := valuesOf(t, o.metrics)
			for _, s := range proxy.Settlements() {
				if got := values["idemproxy_settlements_total "+s.String()]; (got == 1) != (s == settlement) {
					t.Errorf("%s: %v", s, got)
				}
			}
		})
	}
}
