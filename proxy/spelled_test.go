package proxy_test

import (
	"slices"
	"testing"

	"github.com/idemproxy/idemproxy/proxy"
)

// Dashboards and alerts are made of these names: each is there, has its own, and keeps it.
func TestNamesOfMetricsAreKept(t *testing.T) {
	t.Parallel()
	var settlements, outcomes []string
	for _, s := range proxy.Settlements() {
		settlements = append(settlements, s.String())
	}
	if want := []string{"executed", "voided", "unanswered"}; !slices.Equal(settlements, want) {
		t.Errorf("the settlements are %q, want %q", settlements, want)
	}
	for _, o := range proxy.Outcomes() {
		if slices.Contains(outcomes, o.String()) || o.Means() == "" {
			t.Errorf("outcome %q means %q", o, o.Means())
		}
		outcomes = append(outcomes, o.String())
	}
	want := []string{
		"passed", "executed", "replayed-local", "replayed-store", "in-progress", "mismatch", "unknown", "not-replayable",
		"refused", "store-failed", "lease-lost", "backend-unreachable", "backend-busy", "backend-cut", "backend-timeout",
		"failed-open", "duplicate", "overloaded", "expired", "accepted", "joined", "outcome-asked",
	}
	if !slices.Equal(outcomes, want) {
		t.Errorf("the outcomes are %q, want %q", outcomes, want)
	}
}
