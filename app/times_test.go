package app_test

import (
	"testing"

	"github.com/idemproxy/idemproxy/app"
)

func TestQuantiles(t *testing.T) {
	t.Parallel()
	before := app.Times{Count: 10, UpTo: []app.UpTo{{Seconds: 1, Count: 10}, {Seconds: 2, Count: 10}}}
	now := app.Times{Count: 21, UpTo: []app.UpTo{{Seconds: 1, Count: 14}, {Seconds: 2, Count: 20}}}
	since := now.Since(before)
	for q, want := range map[float64]float64{.25: .6875, .5: 1.25, .99: 2} {
		if got, ok := since.Quantile(q); !ok || got != want {
			t.Errorf("%v: %v %v, want %v", q, got, ok, want)
		}
	}
	if _, ok := now.Since(now).Quantile(.5); ok {
		t.Error("a quantile of nothing")
	}
}
