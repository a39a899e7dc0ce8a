package receipt_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/idemproxy/idemproxy/receipt"
)

// underWay are of what meets a transaction that has not ended.
func underWay() map[string]func(*bench) {
	all := map[string]func(*bench){
		"OthersDoNotWait":        func(b *bench) { othersDoNotWait(b, 20) },
		"OthersDoNotWaitOfFirst": func(b *bench) { othersDoNotWait(b, 0) }, // few rows: a database may read them all
	}
	for name, call := range map[string]func(*bench, receipt.Request) (receipt.Response, error){"Void": (*bench).void, "Attempt": (*bench).do} {
		all[name+"MeetsCommit"] = func(b *bench) { meets(b, call, true) }
		all[name+"MeetsRollback"] = func(b *bench) { meets(b, call, false) }
	}
	all["AskerLeaves"] = askerLeaves
	all["AnotherAttemptMeetsCommit"] = func(b *bench) { secondAttempt(b, true) }
	all["AnotherAttemptMeetsRollback"] = func(b *bench) { secondAttempt(b, false) }
	return all
}

// askerLeaves: the endpoint does not wait on for a proxy that has left.
func askerLeaves(b *bench) {
	if b.dialect == receipt.SQLite { // it waits in itself, for as long as its busy time-out says
		return
	}
	tx := b.begin(nil)
	b.answered("a")(b.in(tx, of("k", "a")))
	ctx, leave := context.WithCancel(b.context())
	r := httptest.NewRequestWithContext(ctx, http.MethodPut, "/receipts", http.NoBody)
	r.Header = named("k", "a")
	got, ended := httptest.NewRecorder(), make(chan struct{})
	go func() {
		defer close(ended)
		b.Endpoint(b.db, "").ServeHTTP(got, r)
	}()
	b.blocked()
	leave()
	select {
	case <-ended:
	case <-b.context().Done():
		b.t.Fatal("it waits on")
	}
	if got.Code != http.StatusServiceUnavailable || got.Header().Get(receipt.HeaderOutcome) != receipt.OutcomeUnknown {
		b.t.Errorf("%d %v", got.Code, got.Header())
	}
}

// meets has a call for the attempt that is under way: it ends after that one.
func meets(b *bench, call func(*bench, receipt.Request) (receipt.Response, error), commit bool) {
	tx := b.begin(nil)
	b.answered("a")(b.in(tx, of("k", "a")))
	called := b.background(func() (receipt.Response, error) { return call(b, of("k", "a")) })
	b.blocked()
	select {
	case got := <-called:
		b.t.Fatalf("%d %v, although the transaction has not ended", got.Status, got.err)
	default:
	}
	if commit {
		if err := tx.Commit(); err != nil {
			b.t.Fatal(err)
		}
		got := <-called
		b.answered("a")(got.Response, got.err)
		b.effects(1)
		return
	}
	_ = tx.Rollback()
	switch got := <-called; {
	case errors.Is(got.err, receipt.ErrVoided):
		b.effects(0)
		b.failed(receipt.ErrVoided)(b.do(of("k", "a")))
	default: // it was another try of that attempt
		b.answered("a")(got.Response, got.err)
		b.effects(1)
	}
}

func secondAttempt(b *bench, commit bool) {
	tx := b.begin(nil)
	b.answered("a")(b.in(tx, of("k", "a")))
	called := b.background(func() (receipt.Response, error) { return b.do(of("k", "b")) })
	b.blocked()
	want := "b"
	if commit {
		want = "a"
		if err := tx.Commit(); err != nil {
			b.t.Fatal(err)
		}
	} else {
		_ = tx.Rollback()
	}
	got := <-called
	b.answered(want)(got.Response, got.err)
	b.effects(1)
}

// One operation does not wait for another one's transaction, nor does its void.
func othersDoNotWait(b *bench, before int) {
	if b.dialect == receipt.SQLite {
		return // it has one writer at a time
	}
	for i := range before {
		b.answered(fmt.Sprint(i))(b.do(of(fmt.Sprint("k", i), fmt.Sprint(i))))
	}
	b.answered("5th")(b.do(of("k5th", "5th")))
	under := b.begin(nil)
	b.answered("a")(b.in(under, of("k5a", "a")))
	b.failed(receipt.ErrVoided)(b.void(of("k5c", "c")))
	b.failed(receipt.ErrVoided)(b.do(of("k5c", "c")))
	b.answered("b")(b.do(of("k5b", "b")))
	b.answered("5th")(b.do(of("k5th", "55")))
	b.answered("5th")(b.void(of("k5th", "555")))
	b.failed(receipt.ErrVoided)(b.void(of("k5b2", "b2")))
	b.failed(receipt.ErrVoided)(b.do(of("k5b2", "b2")))
	if err := under.Commit(); err != nil {
		b.t.Error(err)
	}
	b.effects(before + 3)
}

// races are of calls at once.
func races() map[string]func(*bench) {
	return map[string]func(*bench){"AttemptsAtOnce": attemptsAtOnce, "VoidRacesAttempt": voidRacesAttempt, "OneAttemptTwice": oneAttemptTwice}
}

// untilSaid calls again after errors of the database, as proxies and clients do.
func (b *bench) untilSaid(call func() (receipt.Response, error)) (receipt.Response, error) {
	for {
		r, err := call()
		if err == nil || errors.Is(err, receipt.ErrVoided) || b.context().Err() != nil {
			return r, err
		}
	}
}

const rounds = 200

func (b *bench) rounds() int {
	if testing.Short() {
		return rounds / 10
	}
	return rounds
}

func attemptsAtOnce(b *bench) {
	for round := range b.rounds() / 10 {
		var running sync.WaitGroup
		all := make([]ended, 8)
		for i := range all {
			running.Go(func() {
				q := of(fmt.Sprint(round), fmt.Sprint(round, "-", i))
				all[i].Response, all[i].err = b.untilSaid(func() (receipt.Response, error) { return b.do(q) })
			})
		}
		running.Wait()
		for _, one := range all {
			if one.err != nil || string(one.Body) != string(all[0].Body) {
				b.t.Fatalf("round %d: %q and %q, error %v", round, all[0].Body, one.Body, one.err)
			}
		}
		b.effects(round + 1)
	}
}

// oneAttemptTwice: the same attempt may arrive twice.
func oneAttemptTwice(b *bench) {
	for round := range b.rounds() / 4 {
		q := of(fmt.Sprint(round), fmt.Sprint(round))
		again := b.background(func() (receipt.Response, error) {
			return b.untilSaid(func() (receipt.Response, error) { return b.do(q) })
		})
		b.answered(q.Attempt)(b.untilSaid(func() (receipt.Response, error) { return b.do(q) }))
		got := <-again
		b.answered(q.Attempt)(got.Response, got.err)
		b.effects(round + 1)
	}
}

// Of an attempt and its void at once, one wins, and both say so.
func voidRacesAttempt(b *bench) {
	won, errs := map[bool]int{}, 0
	for round := range b.rounds() {
		q := of(fmt.Sprint(round), fmt.Sprint(round))
		begin := make(chan struct{})
		attempt := b.background(func() (receipt.Response, error) { <-begin; return b.do(q) })
		void := b.background(func() (receipt.Response, error) {
			<-begin
			return b.untilSaid(func() (receipt.Response, error) { return b.void(q) })
		})
		close(begin)
		a, v := <-attempt, <-void
		n := b.count("SELECT COUNT(*) FROM effects WHERE attempt = '" + q.Attempt + "'")
		isVoided := errors.Is(v.err, receipt.ErrVoided)
		won[isVoided]++
		if a.err != nil && !errors.Is(a.err, receipt.ErrVoided) {
			errs++
		}
		switch {
		case isVoided && n == 0 && a.err != nil:
		case v.err == nil && n == 1 && a.err == nil && string(a.Body) == string(v.Body):
		default:
			b.t.Errorf("round %d: %d effects, the attempt says %v, the void %v", round, n, a.err, v.err)
		}
	}
	b.t.Logf("voided %d, executed %d, errors of attempts %d", won[true], won[false], errs)
}
