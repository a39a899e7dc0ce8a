package proxy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// A policy on several lines is one dictionary: what is on the second line counts as well.
func TestPolicyOnSeveralLines(t *testing.T) {
	t.Parallel()
	policies := map[string]struct {
		lines      []string
		executions int
		retention  time.Duration
	}{
		"a": {[]string{"retention=60", "no-store"}, 2, 0},
		"b": {[]string{"no-store", "retention=60"}, 2, 0},
		"c": {[]string{"something-else", "retention=60"}, 1, time.Minute},
		"d": {[]string{"retention=60", "retention=120"}, 1, 2 * time.Minute},
		"e": {[]string{"", "no-store"}, 2, 0},
	}
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		var header []string
		for _, line := range policies[q.Header.Get("Idempotency-Key")].lines {
			header = append(header, "Idempotency-Policy: "+line)
		}
		c.Answer(200, fmt.Sprint("execution ", q.Number), header...)
	})
	for key, want := range policies {
		for range 2 {
			if a := r.post(key, "x"); a.StatusCode != 200 || len(a.Header.Values("Idempotency-Policy")) > 0 {
				t.Errorf("%s: %d %v", strings.Join(want.lines, "; "), a.StatusCode, a.Header)
			}
		}
		r.executions(key, want.executions)
		if want.retention == 0 {
			continue
		}
		record, err := r.store.Get(t.Context(), mustKey(key))
		if err != nil {
			t.Fatal(err)
		}
		if got := time.Duration(record.ReplayUntil-record.Updated) * time.Millisecond; got != want.retention {
			t.Errorf("%s: kept for %v, want %v", strings.Join(want.lines, "; "), got, want.retention)
		}
	}
}
