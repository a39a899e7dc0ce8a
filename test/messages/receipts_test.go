package messages_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/proxy"
)

// said is what an endpoint of receipts answers about an operation.
type said struct {
	status   int
	lines    []string // of Idempotency-Outcome
	statuses []string // of Idempotency-Status: what the response had

	behind    behind // comes behind an answer that has no body
	announces byte   // and is announced so: l or c
}

func someWords(r *rand.Rand) said {
	s := said{status: oneOf(r, 200, 200, 200, 200, 204, 204, 304, 404, 500)}
	for range oneOf(r, 0, 1, 2, 2) {
		s.statuses = append(s.statuses, oneOf(r, "201", "201", "404", "404", "500", "201, 404", "99"))
	}
	for range r.IntN(3) {
		var words []string
		for range 1 + r.IntN(2) {
			words = append(words, oneOf(r, "executed", "executed", "executed", "voided", "voided", "unknown", "Executed", "VOIDED", "done", ""))
		}
		s.lines = append(s.lines, strings.Join(words, oneOf(r, ",", ", ", " ,")))
	}
	if s.bodiless() && r.IntN(3) > 0 {
		s.behind, s.announces = behind{oneOf(r, lateWords()...), true}, oneOf[byte](r, 'l', 'c')
	}
	return s
}

// word is what it says; empty if it says nothing, or several things.
func (s said) word() string {
	var words []string
	for _, line := range s.lines {
		for one := range strings.SplitSeq(line, ",") {
			if one = strings.ToLower(strings.TrimSpace(one)); one != "" {
				words = append(words, one)
			}
		}
	}
	if words = slices.Compact(words); len(words) != 1 {
		return ""
	}
	return words[0]
}

// had is the status of the response; 0 if nobody can tell.
func (s said) had() int {
	all := slices.Compact(slices.Clone(s.statuses))
	if len(all) == 0 {
		return http.StatusOK
	}
	if n, err := strconv.Atoi(all[0]); err == nil && len(all) == 1 && n >= 200 && n < 600 {
		return n
	}
	return 0
}

// TestReceiptAnswers: an endpoint of receipts may say anything of an attempt in doubt. What
// is no word, or several, settles nothing: no response is made of it, and nothing is executed again.
func TestReceiptAnswers(t *testing.T) {
	t.Parallel()
	n, first := count(t, 800), firstSeed()
	e := startEndpoint(t)
	receipts, err := proxy.NewHTTPReceipts(e.url, "", patience, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	w, err := start(&setting{maxResponse: 1 << 20, maxBuffered: 256 << 20, receipts: receipts}, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := worker; i < n/4 && !t.Failed(); i += 8 {
				seed := first + uint64(i)
				s := someWords(rand.New(rand.NewPCG(seed, 2)))
				if why := w.settle(e, fmt.Sprint("receipts-", seed), s); why != "" {
					t.Errorf("SEED=%d: an endpoint that answers %d and %q, with status %q, and then %q: %s",
						seed, s.status, s.lines, s.statuses, s.behind.text, why)
				}
			}
		})
	}
	wg.Wait()
}

// settle says what is wrong with how an attempt was settled.
func (w *world) settle(e *endpoint, id string, s said) string {
	x := basic(id)
	x.add("Idempotency-Key", x.key)
	x.reply.framing, x.reply.cut = 'c', true
	e.says(x.key, s)
	at := w.origin.expect(x)
	defer w.origin.forget(id)
	first, again := w.ask(x, nil), w.ask(x, nil)
	n, word := len(at.requests()), s.word()
	has := func(a *answer) bool { return a.header.Get("X-Receipt") != "" }
	switch {
	case first.err != nil || again.err != nil:
		return fmt.Sprintf("%v, %v", first, again)
	case first.header.Get(lateField) != "" || again.header.Get(lateField) != "":
		return fmt.Sprintf("what came behind the answer to another question was believed: %v, %v", first, again)
	case word == "voided" && s.status/100 == 2:
		if has(first) || has(again) {
			return fmt.Sprintf("what was voided has a response: %v, %v", first, again)
		}
	case n != 1:
		return fmt.Sprintf("%d executions; the answers: %v, %v", n, first, again)
	case (has(first) || has(again)) && (word != "executed" || s.status != http.StatusOK):
		return fmt.Sprintf("a response was made of it: %v, %v", first, again)
	case has(first) && first.status != s.had() || has(again) && again.status != s.had():
		return fmt.Sprintf("its status is none that it says, or one of several: %v, %v", first, again)
	case strings.Contains(first.body, "attempt-voided") || strings.Contains(again.body, "attempt-voided"):
		return fmt.Sprintf("the attempt counts as voided: %v, %v", first, again)
	}
	return ""
}

// settleWithin is how long a client waits for the endpoint.
const settleWithin = 100 * time.Millisecond
