package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/idemproxy/idemproxy/app"
)

// condition is what status prints.
type condition struct {
	Ready  readiness  `json:"ready"`
	Status app.Status `json:"status"`
	// Failing is what failed in the last minute, the most first.
	Failing []failing `json:"failing"`
}

// readiness is what /readyz answers.
type readiness struct {
	Status   string            `json:"status"`
	Degraded []string          `json:"degraded,omitempty"`
	Checks   map[string]string `json:"checks"`
	// Since is when each of Degraded was first seen to be amiss.
	Since map[string]time.Time `json:"since,omitempty"`
}

// statusCommand is where somebody begins who was called at night.
func statusCommand() *cobra.Command {
	var k keyCommand
	c := &cobra.Command{
		Use: "status", Short: "Say what is wrong with a running proxy, and since when", Args: cobra.NoArgs,
		Long: "Says whether the proxy serves, and what is wrong with it, each with its cause: a store that does not answer or has\n" +
			"lost its records, settings that could not be read, backends that are left out, keys that wait for somebody, and what\n" +
			"failed in the last minute.\n" +
			"Exit code 0 says that it was asked, whatever the answer; health --ready is for scripts.",
		Example: "  idemproxy status\n  idemproxy status --json | jq '.status.amiss'",
	}
	k.flags(c)
	_ = c.Flags().MarkHidden("scope")
	c.RunE = func(c *cobra.Command, _ []string) error {
		s, err := k.status(c.Context())
		if err != nil {
			return err
		}
		ready, err := k.readiness(c.Context())
		if err != nil {
			return err
		}
		lately, err := k.lastMinute(c.Context())
		if err != nil {
			return err
		}
		if k.asJSON {
			return json.NewEncoder(c.OutOrStdout()).Encode(condition{ready, s, lately})
		}
		_, err = io.WriteString(c.OutOrStdout(), inWords(&ready, &s, time.Now())+failingText(lately))
		return err //nolint:wrapcheck // nothing to add
	}
	return c
}

// readiness asks what a balancer asks. 503 is an answer, too.
func (k *keyCommand) readiness(ctx context.Context) (r readiness, err error) {
	ctx, cancel := context.WithTimeout(ctx, askedFor)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+k.admin+"/readyz", nil)
	if err != nil {
		return r, fmt.Errorf("--admin %s: %w", k.where(), err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return r, failure{fmt.Errorf("asking the proxy at %s: %w", k.where(), err)}
	}
	defer func() { _ = resp.Body.Close() }()
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
		return r, failure{fmt.Errorf("the answer of /readyz: %w", err)}
	}
	return r, nil
}

// inWords has a line for each thing, and says of what is wrong why it is.
func inWords(ready *readiness, s *app.Status, now time.Time) string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("proxy", "%s, %s, up %v, store %s", ready.Status, s.Version, ms(s.UptimeMS).Round(time.Second), s.Store)
	for _, a := range s.Amiss {
		line("wrong", "%s since %s: %s", a.Event, moment(a.Since, now), inLine(a.Text))
	}
	lost := slices.ContainsFunc(s.Amiss, func(a app.Amiss) bool { return a.Event == "store_lost" })
	for _, check := range slices.Sorted(maps.Keys(ready.Checks)) {
		if says := ready.Checks[check]; says != "ok" && (check != "store" || !lost) { // said above, and since when
			line("wrong", "%s%s: %s", check, firstSeen(ready.Since[check], now), inLine(says))
		}
	}
	for _, backend := range s.Backends {
		if !backend.Up {
			line("wrong", "%s", noRequests(&backend, now))
		}
	}
	line("waiting", "%s", waiting(s))
	line("requests", "%s", ofRequests(s.Requests))
	return b.String()
}

// noRequests says of a backend that it is left out, since when and why.
func noRequests(b *app.BackendStatus, now time.Time) string {
	text := fmt.Sprintf("backend %s gets no requests", b.Backend)
	if b.DownSince == nil {
		return text
	}
	return fmt.Sprintf("%s since %s: %s", text, moment(*b.DownSince, now), inLine(b.Why))
}

// firstSeen says since when a check is amiss, as far as that is known: it is made when somebody
// asks for it, and may have failed before.
func firstSeen(at, now time.Time) string {
	if at.IsZero() {
		return ""
	}
	return " since " + moment(at, now) + " or earlier"
}

func moment(at, now time.Time) string {
	return fmt.Sprintf("%s (%v ago)", at.UTC().Format(time.RFC3339), max(0, now.Sub(at).Round(time.Second)))
}

// inLine is a text of several lines in one.
func inLine(text string) string { return strings.ReplaceAll(text, "\n", "; ") }

// waiting says how many keys wait for a person, and as of when, since they are counted now and then.
func waiting(s *app.Status) string {
	n := s.UnknownKeys
	if n == nil {
		return "not counted yet"
	}
	var ago time.Duration
	if s.UnknownCountedS != nil {
		ago = inSeconds(*s.UnknownCountedS)
	}
	asOf := ""
	if ago >= 2*time.Second {
		asOf = fmt.Sprintf(" (counted %v ago)", ago)
	}
	if *n == 0 {
		return "no key is held" + asOf
	}
	oldest := ""
	if s.UnknownOldestS != nil {
		oldest = fmt.Sprintf(", the oldest for %v", inSeconds(*s.UnknownOldestS)+ago)
	}
	return fmt.Sprintf("%s held, of which nobody knows yet whether their requests were executed%s%s: idemproxy list --state unknown",
		count(int(*n)), oldest, asOf)
}

func inSeconds(s float64) time.Duration { return time.Duration(s) * time.Second }

// ofRequests are the outcomes since the start, the most frequent first.
func ofRequests(outcomes map[string]float64) string {
	names := slices.SortedFunc(maps.Keys(outcomes), func(x, y string) int {
		if outcomes[x] != outcomes[y] {
			return int(min(max(outcomes[y]-outcomes[x], -1), 1))
		}
		return strings.Compare(x, y)
	})
	var said []string
	for _, name := range names {
		if outcomes[name] > 0 {
			said = append(said, fmt.Sprintf("%s %.0f", name, outcomes[name]))
		}
	}
	if said == nil {
		return "none yet"
	}
	return strings.Join(said, ", ")
}
