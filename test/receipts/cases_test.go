package receipts_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/receipt"
)

func cases() map[string]func(*running) {
	return map[string]func(*running){
		"Executed":          executed,
		"NotPaid":           notPaid,
		"Scopes":            scopes,
		"WithoutFields":     withoutFields,
		"Endpoint":          endpoint,
		"Look":              look,
		"Malformed":         malformed,
		"VoidedBefore":      voidedBefore,
		"FailedWork":        failedWork,
		"VoidMeetsCommit":   func(r *running) { voidMeets(r, 5, 201, "executed") },
		"VoidMeetsRollback": func(r *running) { voidMeets(r, 5000, 503, "voided") },
		"AttemptsAtOnce":    attemptsAtOnce,
		"VoidRacesAttempt":  voidRacesAttempt,
	}
}

// said is what a kit answered.
type said struct {
	status              int
	outcome, kept, kind string // Idempotency-Outcome, Idempotency-Status, Content-Type
	body                string
}

// send returns what was answered, or the zero said if nothing was.
func (r *running) send(method, path, body string, fields map[string]string) said {
	ctx, cancel := context.WithTimeout(context.Background(), atMost)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.t.Error(err)
		return said{}
	}
	q.Header.Set("Content-Type", "application/json")
	for name, value := range fields {
		if value != "" {
			q.Header.Set(name, value)
		}
	}
	resp, err := http.DefaultClient.Do(q)
	if err != nil {
		r.t.Logf("%s %s: %v", method, path, err)
		return said{}
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Errorf("%s %s: %v", method, path, err)
	}
	h := resp.Header
	return said{resp.StatusCode, h.Get(receipt.HeaderOutcome), h.Get(receipt.HeaderStatus), h.Get("Content-Type"), string(text)}
}

func named(key, attempt string) map[string]string {
	return map[string]string{receipt.HeaderKey: key, receipt.HeaderAttempt: attempt}
}

func (r *running) pay(key, attempt string, amount int) said {
	return r.send(http.MethodPost, "/pay", fmt.Sprintf(`{"amount": %d}`, amount), named(key, attempt))
}

func (r *running) void(key, attempt string) said {
	fields := named(key, attempt)
	fields["Authorization"] = "Bearer " + secret
	return r.send(http.MethodPut, "/receipts", "", fields)
}

func (r *running) look(key, attempt string) said {
	fields := named(key, attempt)
	fields["Authorization"] = "Bearer " + secret
	return r.send(http.MethodGet, "/receipts", "", fields)
}

// is wants an answer, whose body counts if want has one.
func (r *running) is(got, want said) {
	r.t.Helper()
	if want.body == "" {
		got.body = ""
	}
	if want.kind == "" {
		got.kind = ""
	}
	if got != want {
		r.t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func asked(kept said) said {
	return said{200, receipt.OutcomeExecuted, fmt.Sprint(kept.status), kept.kind, kept.body}
}

func executed(r *running) {
	first := r.pay("k", "a", 5)
	r.is(first, said{status: 201, outcome: receipt.OutcomeExecuted, kind: "application/json"})
	r.is(r.pay("k", "a", 5), first)
	r.is(r.pay("k", "b", 5), first)
	r.is(r.void("k", "a"), asked(first))
	r.is(r.void("k", "c"), asked(first))
	r.is(r.pay("K", "d", 5), said{status: 201, outcome: receipt.OutcomeExecuted})
	r.payments(2)
}

// A refusal is a response like any other.
func notPaid(r *running) {
	first := r.pay("k", "a", 0)
	r.is(first, said{status: 422, outcome: receipt.OutcomeExecuted, kind: "text/plain", body: "want an amount\n"})
	r.is(r.pay("k", "b", 5), first)
	r.is(r.void("k", "a"), asked(first))
	r.payments(0)
}

func scopes(r *running) {
	for i, scope := range []string{"", "alice", "bob", "bob"} {
		fields := named("k", fmt.Sprint("a", i))
		fields[receipt.HeaderScope] = scope
		r.is(r.send(http.MethodPost, "/pay", `{"amount": 5}`, fields), said{status: 201, outcome: receipt.OutcomeExecuted})
	}
	r.payments(3)
}

// Without a key, every request is an operation; without a token, it runs once all the same.
func withoutFields(r *running) {
	for range 2 {
		r.is(r.pay("", "", 5), said{status: 201, outcome: receipt.OutcomeExecuted})
		r.is(r.pay("k", "", 5), said{status: 201, outcome: receipt.OutcomeExecuted})
	}
	r.payments(3)
}

func endpoint(r *running) {
	for _, authorization := range []string{"", "Bearer s3cre", "Basic " + secret} {
		fields := named("k", "a")
		fields["Authorization"] = authorization
		if got := r.send(http.MethodPut, "/receipts", "", fields); got.status != 401 || got.outcome != "" {
			r.t.Errorf("%q: %+v", authorization, got)
		}
	}
	for _, got := range []said{r.void("", "a"), r.void("k", "")} {
		if got.status != 400 || got.outcome != "" {
			r.t.Errorf("%+v", got)
		}
	}
	r.is(r.pay("k", "a", 5), said{status: 201, outcome: receipt.OutcomeExecuted})
	r.payments(1)
}

// Who only looks, as an operator does, voids nothing.
func look(r *running) {
	if got := r.send(http.MethodGet, "/receipts", "", named("k", "a")); got.status != 401 {
		r.t.Errorf("without the secret: %+v", got)
	}
	r.is(r.look("k", "a"), said{status: 404})
	first := r.pay("k", "a", 5)
	r.is(first, said{status: 201, outcome: receipt.OutcomeExecuted})
	r.is(r.look("k", "b"), asked(first))
	r.is(r.void("l", "c"), voided)
	r.is(r.look("l", "c"), said{status: 404})
}

// What is no order is refused before anything begins: nobody need ask about it.
func malformed(r *running) {
	for _, body := range []string{"", "{", "{}", "null", `{"amount": "x"}`} {
		r.is(r.send(http.MethodPost, "/pay", body, named("k", "a")), said{status: 400})
	}
	r.is(r.pay("k", "a", 5), said{status: 201, outcome: receipt.OutcomeExecuted})
	r.payments(1)
}

var voided, refused = said{status: 204, outcome: receipt.OutcomeVoided}, said{status: 409, outcome: receipt.OutcomeVoided}

func voidedBefore(r *running) {
	r.is(r.void("k", "a"), voided)
	r.is(r.void("k", "a"), voided)
	r.is(r.pay("k", "a", 5), refused)
	r.payments(0)
	second := r.pay("k", "b", 5)
	r.is(second, said{status: 201, outcome: receipt.OutcomeExecuted})
	r.is(r.void("k", "a"), asked(second))
	r.is(r.pay("k", "a", 5), second)
	r.payments(1)
}

// An order that the database refuses leaves nothing.
func failedWork(r *running) {
	r.is(r.pay("k", "a", 5000), said{status: 503, outcome: receipt.OutcomeUnknown})
	r.payments(0)
	if n := r.count("SELECT COUNT(*) FROM idempotency_receipts"); n != 0 {
		r.t.Errorf("%d receipts", n)
	}
	r.is(r.pay("k", "a", 5), said{status: 201, outcome: receipt.OutcomeExecuted})
	r.payments(1)
}

// background has a call's answer when it comes.
func background(call func() said) <-chan said {
	out := make(chan said, 1)
	go func() { out <- call() }()
	return out
}

// voidMeets has the void of an attempt whose transaction is under way: the test holds the
// table that the payment is written to.
func voidMeets(r *running, amount, status int, outcome string) {
	if r.dialect == receipt.SQLite {
		r.t.Skip("SQLite has one writer at a time, so a void waits before it begins: see VoidRacesAttempt")
	}
	tx, err := r.db.BeginTx(r.t.Context(), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(r.t.Context(), "LOCK TABLE payments IN EXCLUSIVE MODE"); err != nil {
		r.t.Fatal(err)
	}
	payment := background(func() said { return r.pay("k", "a", amount) })
	r.blocked(1)
	void := background(func() said { return r.void("k", "a") })
	r.blocked(2)
	select {
	case got := <-void:
		r.t.Errorf("the void did not wait: %+v", got)
	default:
	}
	_ = tx.Rollback()
	paid := <-payment
	if paid.status != status {
		r.t.Errorf("the attempt said %+v", paid)
	}
	if outcome == receipt.OutcomeExecuted {
		r.is(<-void, asked(paid))
		r.payments(1)
		return
	}
	r.is(<-void, voided)
	r.is(r.pay("k", "a", 5), refused)
	r.payments(0)
}

// blocked waits until so many statements wait for a lock.
func (r *running) blocked(n int) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), atMost)
	defer cancel()
	for r.count("SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") < n {
		select {
		case <-ctx.Done():
			r.t.Fatal("nothing waits for the transaction")
		case <-time.After(10 * time.Millisecond): // the server's doing
		}
	}
}

func attemptsAtOnce(r *running) {
	for round := range 5 {
		var sending sync.WaitGroup
		all := make([]said, 8)
		for i := range all {
			sending.Go(func() { all[i] = r.pay(fmt.Sprint(round), fmt.Sprint(round, "-", i), 5) })
		}
		sending.Wait()
		r.is(all[0], said{status: 201, outcome: receipt.OutcomeExecuted})
		for _, one := range all {
			r.is(one, all[0])
		}
		r.payments(round + 1)
	}
}

// Of an attempt and its void at once, one wins, and both say so.
func voidRacesAttempt(r *running) {
	rounds, won := 100, map[string]int{}
	if testing.Short() {
		rounds = 10
	}
	for round := range rounds {
		key, before := fmt.Sprint(round), r.count("SELECT COUNT(*) FROM payments")
		payment := background(func() said { return r.pay(key, "a"+key, 5) })
		void := r.void(key, "a"+key)
		paid := <-payment
		won[void.outcome]++
		if void.outcome == receipt.OutcomeExecuted {
			r.is(paid, said{status: 201, outcome: receipt.OutcomeExecuted})
			r.is(void, asked(paid))
			r.payments(before + 1)
			continue
		}
		r.is(void, voided)
		r.is(paid, refused)
		r.payments(before)
	}
	r.t.Logf("%v", won)
}
