package pstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/dbtest"
	"github.com/idemproxy/idemproxy/pstore"
)

// That a commit did not wait for its standbys the server says in a warning. A role that
// hears no warnings has it not taken for an acknowledgement either.
func TestP1UnreplicatedIsHeardByRolesThatWantNoWarnings(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	server.Do("ALTER ROLE postgres SET client_min_messages = error")
	s := open(t, pstore.Config{URL: server.URL("postgres") + conns, Schema: "s", Timeout: 10 * time.Second})
	held := make([]idem.Claim, 3)
	for i := range held {
		held[i] = acquired(t, s, fmt.Sprint("held", i))
	}
	server.Do("ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()")
	until(t, "it waits for standbys", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		return s.Renew(ctx, []idem.Lease{held[0].Lease()})[0] != nil
	})
	until(t, "what nobody waits for any more has let its row go", func() bool {
		return server.Do("SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == "0"
	})
	ctx := context.Background()
	for name, call := range map[string]func() error{
		"acquire":  func() error { _, err := s.Acquire(ctx, claim("new")); return err },
		"renew":    func() error { return s.Renew(ctx, []idem.Lease{held[0].Lease()})[0] },
		"complete": func() error { return s.Complete(ctx, held[0].Lease(), &idem.Response{Status: 200}) },
		"hold":     func() error { return s.Hold(ctx, held[1].Lease()) },
		"purge":    func() error { return s.Purge(ctx, held[2].Key) },
		"enter":    func() error { return s.Enter(ctx, "name", "text", 0) },
		"ping":     func() error { return s.Ping(ctx) },
	} {
		answered := make(chan error, 1)
		go func() { answered <- call() }()
		var err error
		until(t, name+" is answered once its wait is cancelled", func() bool {
			select {
			case err = <-answered:
				return true
			default:
				_, _ = server.Try("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
				return false
			}
		})
		if !errors.Is(err, idem.ErrUnavailable) || errors.Is(err, idem.ErrRefused) {
			t.Errorf("%s: %v, want %v, and not refused", name, err, idem.ErrUnavailable)
		}
	}
}

// Under the stricter isolation levels one lease that ends has the server refuse the batch
// that it is renewed with. The others are renewed all the same.
func TestRenewalsPassEndings(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	for _, level := range []string{"repeatable read", "serializable"} {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			s := open(t, pstore.Config{
				Timeout: 20 * time.Second,
				URL:     server.URL("postgres") + "?pool_max_conns=8&options=-c%20default_transaction_isolation%3D" + url(level),
			})
			leases := make([]idem.Lease, 512)
			for i := range leases {
				leases[i] = acquired(t, s, fmt.Sprint(i)).Lease()
			}
			const ending = 8 // leases that end and begin all the time
			ctx, stop := context.WithCancel(context.Background())
			var work sync.WaitGroup
			defer work.Wait()
			defer stop()
			began := make(chan struct{}, ending)
			for i := range ending {
				work.Go(func() {
					for n := 0; ctx.Err() == nil; n++ {
						l := leases[i*len(leases)/ending]
						_ = s.Release(ctx, l)
						_, _ = s.Acquire(ctx, idem.Claim{Key: l.Key, Owner: l.Owner, TTL: time.Minute, Retention: time.Hour})
						if n == 0 {
							began <- struct{}{}
						}
					}
				})
			}
			for range ending {
				<-began
			}
			for i, err := range s.Renew(context.Background(), leases) {
				if err != nil && i%(len(leases)/ending) != 0 {
					t.Fatalf("lease %d, which nobody else touches, is not renewed: %v", i, err)
				}
			}
		})
	}
}

// A role's settings are no reason for those who migrate at a time to fail.
func TestMigrateAtATimeWhateverTheRolesSettings(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	server.Do("ALTER ROLE postgres SET default_transaction_isolation = 'serializable'",
		"ALTER ROLE postgres SET lock_timeout = 1", "ALTER ROLE postgres SET idle_in_transaction_session_timeout = 1")
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := pstore.Migrate(context.Background(), pstore.Config{URL: server.URL("postgres"), Schema: "s"}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// A role that is not to write is told what keeps it from that.
func TestReadOnlyIsSaid(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	server.Do("ALTER ROLE postgres SET default_transaction_read_only = on")
	config := pstore.Config{URL: server.URL("postgres") + conns, Migrate: true}
	s, err := pstore.New(config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	_, migrating := pstore.Migrate(context.Background(), config)
	for name, err := range map[string]error{"ping": s.Ping(context.Background()), "migrate": migrating} {
		if err == nil || !strings.Contains(err.Error(), "default_transaction_read_only") {
			t.Errorf("%s: %v; want what to mend", name, err)
		}
	}
}
