package cli

import (
	"os"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/admin"
)

// What failed is of the last minute, not of the time since the start, and the most comes first.
func TestFailingOfTheLastMinute(t *testing.T) {
	t.Parallel()
	rates := func(at int64, of map[string]float64) admin.Sample {
		return admin.Sample{At: at, OverMS: 5000, Requests: of}
	}
	got := failingText(failingOf([]admin.Sample{
		rates(1_000, map[string]float64{"store-failed": 100}), // longer ago
		rates(61_000, map[string]float64{"executed": 8, "backend-cut": 1.2, "backend-timeout": 0.4}),
		rates(66_000, map[string]float64{"executed": 9.4, "backend-cut": 1}),
	}))
	want := "failing    backend-cut: 11 in the last minute, 11.0% of all: the backend broke the connection off: it may have executed the request: " +
		"idemproxy tail --outcome backend-cut\n" +
		"failing    backend-timeout: 2 in the last minute, 2.0% of all: the backend did not answer in time: it may have executed the request: " +
		"idemproxy tail --outcome backend-timeout\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if got := failingText(failingOf(nil)) + failingText(failingOf([]admin.Sample{rates(1_000, map[string]float64{"executed": 8})})); got != "" {
		t.Errorf("nothing fails, and yet: %s", got)
	}
}

// The page and the command line say the same of the same outcomes.
func TestFailuresAreThoseOfThePage(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../admin/page/banner.js")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "const failures = {\n")
	list, _, _ := strings.Cut(rest, "};")
	if lines := strings.Count(list, "\n"); lines != len(failedOutcomes()) {
		t.Errorf("the page has %d outcomes, the command line %d", lines, len(failedOutcomes()))
	}
	for outcome, means := range failedOutcomes() {
		if !strings.Contains(list, outcome) || !strings.Contains(list, `: "`+means+`"`) {
			t.Errorf("the page does not say that %s means: %s", outcome, means)
		}
	}
}
