package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/idemproxy/idemproxy/admin"
)

// failing is how many requests of the last minute failed in one way.
type failing struct {
	Outcome string  `json:"outcome"`
	Count   int     `json:"count"`
	Share   float64 `json:"share"` // of all requests of that minute
}

// failedOutcomes says what each outcome means that is a failure, as the page does.
func failedOutcomes() map[string]string {
	return map[string]string{
		"store-failed":        "the store could not answer: refused, nothing was forwarded",
		"lease-lost":          "the lease was lost before anything was forwarded",
		"backend-unreachable": "no connection to the backend: nothing was sent, and a retry is safe",
		"backend-busy":        "no connection to the backend was free: nothing was sent",
		"backend-cut":         "the backend broke the connection off: it may have executed the request",
		"backend-timeout":     "the backend did not answer in time: it may have executed the request",
		"failed-open":         "the store could not answer: forwarded without protection (fail_open)",
		"overloaded":          "too much is under way here (max_in_flight, max_buffered, max_per_...): refused",
	}
}

// lastMinute asks the proxy what it did in the last minute. An older proxy does not know,
// and nothing is said.
func (k *keyCommand) lastMinute(ctx context.Context) ([]failing, error) {
	text, err := k.ask(ctx, http.MethodGet, "/history", nil)
	var said *refused
	if errors.As(err, &said) && said.status == http.StatusNotFound {
		return failingOf(nil), nil
	}
	if err != nil {
		return nil, err
	}
	var history admin.Samples
	if err := json.Unmarshal(text, &history); err != nil {
		return nil, failure{fmt.Errorf("the proxy's answer: %w", err)}
	}
	return failingOf(history.Samples), nil
}

// failingOf counts the failures in the samples of the last minute, the most first.
func failingOf(samples []admin.Sample) []failing {
	out := []failing{} // not null in JSON
	if len(samples) == 0 {
		return out
	}
	last, means := samples[len(samples)-1].At, failedOutcomes()
	all, counts := 0.0, map[string]float64{}
	for i := range samples {
		one := &samples[i]
		if one.At <= last-time.Minute.Milliseconds() {
			continue
		}
		for outcome, rate := range one.Requests {
			n := rate * float64(one.OverMS) / 1000
			all += n
			if means[outcome] != "" {
				counts[outcome] += n
			}
		}
	}
	for _, outcome := range slices.Sorted(maps.Keys(counts)) {
		if n := counts[outcome]; n > 0 {
			out = append(out, failing{outcome, int(n + 0.5), n / all})
		}
	}
	slices.SortStableFunc(out, func(a, b failing) int { return cmp.Compare(b.Count, a.Count) })
	return out
}

// failingText has a line for each.
func failingText(all []failing) string {
	var b strings.Builder
	for _, f := range all {
		fmt.Fprintf(&b, "%-10s %s: %d in the last minute, %.1f%% of all: %s: idemproxy tail --outcome %s\n",
			"failing", f.Outcome, f.Count, 100*f.Share, failedOutcomes()[f.Outcome], f.Outcome)
	}
	return b.String()
}
