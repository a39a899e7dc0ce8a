package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/idemproxy/idemproxy/admin"
	"github.com/idemproxy/idemproxy/app"
)

func tailCommand() *cobra.Command {
	var k keyCommand
	c := &cobra.Command{
		Use: "tail", Short: "Show decisions as they are made", Args: cobra.NoArgs,
		Example: "  idemproxy tail\n  idemproxy tail --outcome mismatch,in-progress --json",
	}
	k.flags(c)
	_ = c.Flags().MarkHidden("scope")
	outcomes := c.Flags().StringSlice("outcome", nil, "only these outcomes")
	key := c.Flags().String("key", "", "only the key that the log calls so")
	count := c.Flags().IntP("count", "n", 0, "end after that many; 0 for never")
	c.RunE = func(c *cobra.Command, _ []string) error {
		n := 0
		return k.follow(c.Context(), func(e *admin.Event, raw []byte) bool {
			if len(*outcomes) > 0 && !slices.Contains(*outcomes, e.Outcome) || *key != "" && e.Key != *key {
				return true
			}
			var err error
			if k.asJSON {
				_, err = fmt.Fprintf(c.OutOrStdout(), "%s\n", raw)
			} else {
				_, err = io.WriteString(c.OutOrStdout(), line(e))
			}
			n++
			return err == nil && n != *count
		}, c.ErrOrStderr())
	}
	return c
}

// line is a decision for people.
func line(e *admin.Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %-16s %3d %8.2fms  %s %s",
		e.At.Local().Format("15:04:05.000"), e.Outcome, e.Status, e.Millis, e.Method, e.Path)
	if e.Key != "" {
		fmt.Fprintf(&b, "  %s", e.Key)
	}
	if e.Attempt > 1 {
		fmt.Fprintf(&b, " attempt %d", e.Attempt)
	}
	if e.Ending != "" {
		fmt.Fprintf(&b, " %s", e.Ending)
	}
	if e.Differs != "" {
		fmt.Fprintf(&b, " another %s", strings.ReplaceAll(e.Differs, ",", " and "))
	}
	if e.Would != "" {
		fmt.Fprintf(&b, " would: %s", e.Would)
	}
	if e.Store > 0 {
		fmt.Fprintf(&b, " store %.2fms", e.Store)
	}
	if e.Backend > 0 {
		fmt.Fprintf(&b, " backend %.2fms", e.Backend)
	}
	if e.Settled != "" {
		fmt.Fprintf(&b, " settled: %s", e.Settled)
	}
	if e.Error != "" {
		fmt.Fprintf(&b, "  %s", e.Error)
	}
	return b.String() + "\n"
}

// follow shows decisions to visit until it returns false, ctx ends, or the proxy
// does.
func (k *keyCommand) follow(ctx context.Context, visit func(e *admin.Event, raw []byte) bool, stderr io.Writer) error {
	resp, err := k.request(ctx, http.MethodGet, "/events", nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	missed := false
	for lines.Scan() {
		name, isName := bytes.CutPrefix(lines.Bytes(), []byte("event: "))
		missed = missed && !isName || string(name) == "missed"
		raw, isData := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !isData {
			continue
		}
		if missed {
			missed = false
			_, _ = fmt.Fprintf(stderr, "%s came too fast to be shown\n", raw)
			continue
		}
		var e admin.Event
		if err := json.Unmarshal(raw, &e); err != nil {
			return failure{fmt.Errorf("the proxy's answer: %w", err)}
		}
		if !visit(&e, raw) {
			return nil
		}
	}
	if ctx.Err() != nil {
		return nil // the user has seen enough
	}
	if err := lines.Err(); err != nil {
		return failure{fmt.Errorf("the proxy at %s: %w", k.where(), err)}
	}
	return failure{fmt.Errorf("the proxy at %s ended", k.where())}
}

// top is what came within an interval.
type top struct {
	Since   time.Time `json:"since"`
	Seconds float64   `json:"seconds"`
	// Rates are a second, by outcome; Keys how often each was seen, of those
	// decisions that did not come too fast to be shown.
	Rates map[string]float64 `json:"rates"`
	Keys  map[string]int     `json:"keys"`
	// Latency are percentiles within the interval, in milliseconds, by what: store,
	// backend, request.
	Latency map[string]latency `json:"latency"`
	Status  app.Status         `json:"status"`
}

// latency is how long something took for half of its times, and for all but one in a hundred.
type latency struct {
	Count uint64  `json:"count"`
	P50   float64 `json:"p50_ms"`
	P99   float64 `json:"p99_ms"`
}

func latencyOf(t app.Times) latency {
	p50, _ := t.Quantile(.5)
	p99, _ := t.Quantile(.99)
	return latency{t.Count, 1000 * p50, 1000 * p99}
}

func topCommand() *cobra.Command {
	var k keyCommand
	c := &cobra.Command{
		Use: "top", Short: "Show rates and the busiest keys, again and again", Args: cobra.NoArgs,
		Example: "  idemproxy top\n  idemproxy top --count 1 --interval 10s --json",
	}
	k.flags(c)
	_ = c.Flags().MarkHidden("scope")
	interval := c.Flags().Duration("interval", 2*time.Second, "how long to count before it is shown")
	count := c.Flags().IntP("count", "n", 0, "end after that many times; 0 for never")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if *interval <= 0 {
			return fmt.Errorf("--interval %v: want more than 0", *interval)
		}
		ctx, cancel := context.WithCancel(c.Context())
		defer cancel()
		events, ended := make(chan admin.Event, 1024), make(chan error, 1)
		go func() {
			ended <- k.follow(ctx, func(e *admin.Event, _ []byte) bool {
				select {
				case events <- *e:
				case <-ctx.Done():
				}
				return true
			}, io.Discard)
		}()
		for n := 1; ; n++ {
			t, err := k.collect(ctx, *interval, events, ended)
			if err != nil || t == nil {
				return err
			}
			if err := k.printTop(c.OutOrStdout(), t); err != nil || n == *count {
				return err
			}
		}
	}
	return c
}

// collect counts for a while; nil says that the user has seen enough.
func (k *keyCommand) collect(ctx context.Context, d time.Duration, events <-chan admin.Event, ended <-chan error) (*top, error) {
	t := &top{Since: time.Now(), Rates: map[string]float64{}, Keys: map[string]int{}, Latency: map[string]latency{}}
	before, err := k.status(ctx)
	if err != nil {
		return nil, err
	}
	over := time.NewTimer(d)
	defer over.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil, nil //nolint:nilnil // as documented
		case err := <-ended:
			return nil, err
		case e := <-events:
			if e.Key != "" {
				t.Keys[e.Key]++
			}
		case <-over.C:
			t.Seconds = time.Since(t.Since).Seconds()
			if t.Status, err = k.status(ctx); err != nil {
				return nil, err
			}
			for outcome, n := range t.Status.Requests {
				t.Rates[outcome] = max(0, n-before.Requests[outcome]) / t.Seconds
			}
			for what, times := range t.Status.Seconds {
				t.Latency[what] = latencyOf(times.Since(before.Seconds[what]))
			}
			return t, nil
		}
	}
}

func (k *keyCommand) status(ctx context.Context) (s app.Status, err error) {
	text, err := k.ask(ctx, http.MethodGet, "/status", nil)
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, failure{fmt.Errorf("the proxy's answer: %w", err)}
	}
	return s, nil
}

// shownKeys is how many of the busiest keys are shown.
const shownKeys = 10

func (k *keyCommand) printTop(w io.Writer, t *top) error {
	if k.asJSON {
		return json.NewEncoder(w).Encode(t) //nolint:wrapcheck // nothing to add
	}
	var b bytes.Buffer
	if f, ok := w.(*os.File); ok && isatty.IsTerminal(f.Fd()) {
		b.WriteString("\x1b[H\x1b[2J")
	}
	fmt.Fprintf(&b, "%s  %s, store %s, up %v   in progress %.0f   waiting %.0f   store errors %.0f   leases lost %.0f\n\n",
		time.Now().Format(time.TimeOnly), t.Status.Version, t.Status.Store, ms(t.Status.UptimeMS).Round(time.Second),
		t.Status.LeasesInFlight, t.Status.Waiters, t.Status.StoreErrors, t.Status.LeasesLost)
	if t.Status.StoreUp == 0 {
		b.WriteString("THE STORE DOES NOT ANSWER\n\n")
	}
	if n := t.Status.UnknownKeys; n != nil && *n > 0 {
		fmt.Fprintf(&b, "%.0f keys are held until they are resolved (idemproxy list)\n\n", *n)
	}
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(table, "OUTCOME\tA SECOND\tSINCE START\t")
	for _, outcome := range slices.Sorted(maps.Keys(t.Status.Requests)) {
		if n := t.Status.Requests[outcome]; n > 0 {
			_, _ = fmt.Fprintf(table, "%s\t%.1f\t%.0f\t\n", outcome, t.Rates[outcome], n)
		}
	}
	_, _ = fmt.Fprintln(table, "\t\t\t\nLATENCY\tHALF\t99 OF 100\t")
	for _, what := range []string{"request", "store", "backend"} {
		if l := t.Latency[what]; l.Count > 0 {
			_, _ = fmt.Fprintf(table, "%s\t%.2fms\t%.2fms\t\n", what, l.P50, l.P99)
		}
	}
	_, _ = fmt.Fprintln(table, "\t\t\t\nKEY\tA SECOND\t\t")
	keys := slices.SortedFunc(maps.Keys(t.Keys), func(x, y string) int {
		return cmp.Or(cmp.Compare(t.Keys[y], t.Keys[x]), cmp.Compare(x, y))
	})
	for _, key := range keys[:min(len(keys), shownKeys)] {
		_, _ = fmt.Fprintf(table, "%s\t%.1f\t\t\n", key, float64(t.Keys[key])/t.Seconds)
	}
	_ = table.Flush()
	_, err := w.Write(b.Bytes())
	return err //nolint:wrapcheck // nothing to add
}
