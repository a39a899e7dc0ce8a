package proxy

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/golden"
	"github.com/idemproxy/idemproxy/upstream"
)

// TestProblemsDocument keeps docs/problems.md, where the types lead, in step.
func TestProblemsDocument(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("# Problems\n\nPrinted from package `proxy` by `make docs`; do not edit. The answers that the proxy makes itself are RFC 9457\n" +
		"`application/problem+json`: `type` leads to a section of this page, `detail` says what happened and what to do, and\n" +
		"`retryable` whether the same request may fare better when sent again, and `idempotency_key` repeats the key if there\n" +
		"was a valid one.\n\n" +
		"A mismatch (`422`) has `differs`, a list of the parts of the request that are known to differ: `caller`, `method`, `target`\n" +
		"(host, path and query), `headers`, and `body` (its bytes, media type or content coding). The list may be incomplete: one difference in 256\n" +
		"is not noticed. If no part is known, the list has `request`; so it is with records of earlier releases.\n\n" +
		"`Link: <...>; rel=\"describedby\"` leads here, too. A client that accepts `text/plain` and no JSON gets the same as text.\n")
	all := problems()
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	slices.SortFunc(names, func(x, y string) int {
		return strings.Compare(fmt.Sprint(all[x].status, x), fmt.Sprint(all[y].status, y))
	})
	for _, name := range names {
		p := all[name]
		fmt.Fprintf(&b, "\n## %s\n\n`%s` %s. %s\n", name, statusesOf(p), p.title, p.detail)
		again := "no"
		if p.retryable {
			again = "yes"
		}
		fmt.Fprintf(&b, "\nRetryable: %s\n", again)
		switch {
		case p.retryAfter != "":
			fmt.Fprintf(&b, "\n`Retry-After: %s`\n", p.retryAfter)
		case p == &problemStore:
			b.WriteString("\n`Retry-After: 1` with 503\n")
		}
	}
	golden.Check(t, "../docs/problems.md", b.String())
}

// statusesOf are all that a problem is answered with: by settings, and by what failed.
func statusesOf(p *problem) string {
	all := []int{p.status}
	for _, late := range []bool{false, true} {
		e := &upstream.Exchange{Err: io.EOF, Sent: idem.MayHaveExecuted, Timeout: late}
		failed, pending := &Rules{FailStatus: 500}, request{report: Report{Settlement: SettledNotYet}}
		asks := &Rules{Resolver: new(HTTPResolver), Policy: idem.Policy{OnAmbiguous: idem.AmbiguousHold}}
		if late {
			failed.FailStatus = 503
		}
		for _, one := range []*problem{
			failed.storeProblem(), failed.beginProblem(idem.ErrRecipe, false), failed.beginProblem(idem.ErrUnopened, false), exchangeProblem(e, true), new(request).unguardedProblem(e),
			ofExchange(problemVoided, e), ofExchange(problemUnsettled, e), pending.unknownProblem(),
			asks.keyedProblem(e), (&request{rules: asks}).unknownProblem(),
		} {
			if one.name == p.name {
				all = append(all, one.status)
			}
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	text := fmt.Sprint(all[len(all)-1])
	for i := len(all) - 2; i >= 0; i-- {
		text = fmt.Sprint(all[i]) + map[bool]string{true: " or ", false: ", "}[i == len(all)-2] + text
	}
	return text
}

// Every problem that the code defines is in the list.
func TestProblemsAreListed(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("problem.go")
	if err != nil {
		t.Fatal(err)
	}
	if defined := strings.Count(string(source), " = problem{"); defined != len(problems()) {
		t.Errorf("%d problems defined, %d listed", defined, len(problems()))
	}
}

func FuzzProblemJSON(f *testing.F) {
	f.Add("k", "reason")
	f.Add(`"\{}`, "a\nb\x00\xff")
	f.Fuzz(func(t *testing.T, value, reason string) {
		var key *idem.Key
		if k, err := idem.ParseKey(value); err == nil {
			key = &k
		}
		var got struct {
			Detail string `json:"detail"`
			Key    string `json:"idempotency_key"`
		}
		b := problemStore.appendJSON(nil, instance{key: key, reason: reason})
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		if key != nil && got.Key != value {
			t.Errorf("key %q became %q", value, got.Key)
		}
	})
}
