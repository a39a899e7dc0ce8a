package pstore_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/internal/dbtest"
	"github.com/idemproxy/idemproxy/pstore"
)

func TestMigrate(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	config := pstore.Config{URL: server.URL("postgres"), Schema: "s"}
	var all sync.WaitGroup
	made := make(chan int, 8)
	for range cap(made) {
		all.Go(func() {
			before, err := pstore.Migrate(context.Background(), config)
			if err != nil {
				t.Error(err)
			}
			made <- before
		})
	}
	all.Wait()
	close(made)
	news := 0
	for before := range made {
		if before == 0 {
			news++
		}
	}
	if news != 1 {
		t.Errorf("%d of those who migrated at a time made the schema, want 1", news)
	}
	s, err := pstore.New(config) // which is not to migrate
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	awaitReady(t, s)

	server.Do("UPDATE s.meta SET version = 99, least = 99")
	later, err := pstore.New(config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = later.Close() }()
	until(t, "a later schema is refused", func() bool {
		err := later.Ping(context.Background())
		return err != nil && strings.Contains(err.Error(), "later build")
	})
	server.Do("UPDATE s.meta SET version = 99, least = 1")
	awaitReady(t, later)
}

func TestNoSchemaIsSaid(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	config := pstore.Config{URL: server.URL("postgres"), Schema: "s"}
	s, err := pstore.New(config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	until(t, "it is said what to do", func() bool {
		err := s.Ping(context.Background())
		return errors.Is(err, idem.ErrUnavailable) && strings.Contains(err.Error(), "idemproxy migrate")
	})
	if _, err := pstore.Migrate(context.Background(), config); err != nil {
		t.Fatal(err)
	}
	awaitReady(t, s)
	until(t, "the schema is gone", func() bool { // a statement of the store's may be in the way: a deadlock
		_, err := server.Try("DROP SCHEMA s CASCADE")
		return err == nil
	})
	until(t, "the loss is said", func() bool {
		err := s.Ping(context.Background())
		return errors.Is(err, idem.ErrUnavailable) && strings.Contains(err.Error(), "idemproxy migrate")
	})
}

// What is swept is what has ended, by one at a time, and page by page.
func TestSweep(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	s := open(t, pstore.Config{URL: server.URL("postgres") + conns, Schema: "s"})
	ctx := context.Background()
	kept, remembered, over := completed(t, s, "kept"), claim("remembered"), claim("over")
	held := acquired(t, s, "held")
	if err := s.Hold(ctx, held.Lease()); err != nil {
		t.Fatal(err)
	}
	remembered.Retention, remembered.Remember, over.Retention = time.Millisecond, time.Hour, time.Millisecond
	for _, c := range []idem.Claim{remembered, over} {
		if _, err := s.Acquire(ctx, c); err != nil {
			t.Fatal(err)
		}
		if err := s.Complete(ctx, c.Lease(), &idem.Response{Status: 200, Body: []byte("x")}); err != nil {
			t.Fatal(err)
		}
	}
	// Many more, over several pages.
	server.Do("INSERT INTO s.record SELECT gen_random_uuid(), owner, fingerprint, binding, recipe, attempt, until, created, updated, " +
		"expires, retention, remember, state, holds, hinted, scope, key, response FROM s.record, generate_series(1, 2000) WHERE key = 'over'")
	until(t, "they have ended", func() bool { // and the store's own sweep may have begun with them
		return server.Do("SELECT count(*) = 0 FROM s.record WHERE key = 'over' AND expires >= s.clock()") == "t"
	})
	server.Do("UPDATE s.sweeper SET page = 0, next = 0")
	var gone int64
	for calls := 1; ; calls++ {
		n, whole, err := s.SweepOnce(ctx, 5, 0, 0)
		if err != nil || n < 0 {
			t.Fatalf("sweep %d: %d, %v", calls, n, err)
		}
		gone += n
		if whole {
			if calls < 3 && gone == 2001 { // otherwise the store's own sweep, which takes more pages, was here meanwhile
				t.Errorf("%d pages at a time, the whole table is %d calls", 5, calls)
			}
			break
		}
	}
	// The store's own may have taken some.
	if left := server.Do("SELECT count(*) FROM s.record"); left != "3" || gone > 2001 {
		t.Errorf("%d are gone, %s are left, want 3", gone, left)
	}
	if with := server.Do("SELECT count(*) FROM s.record WHERE response IS NOT NULL"); with != "1" {
		t.Errorf("%s responses are left, want 1", with)
	}
	acquire(t, s, kept, idem.VerdictCompleted)
	acquire(t, s, remembered, idem.VerdictExpired)
	acquire(t, s, held, idem.VerdictUnknown)
	acquire(t, s, over, idem.VerdictAcquired)

	if _, _, err := s.SweepOnce(ctx, 1000, time.Hour, time.Hour); err != nil {
		t.Fatal(err)
	}
	if n, _, err := s.SweepOnce(ctx, 1000, time.Hour, time.Hour); n != -1 || err != nil {
		t.Errorf("a sweep before its time: %d, %v", n, err)
	}
	if plan := server.Do("EXPLAIN SELECT id FROM s.record WHERE ctid >= '(1,0)' AND ctid < '(2,0)' AND expires <= 1"); !strings.Contains(plan, "Tid Range Scan") {
		t.Errorf("a sweep reads more than its pages: %s", plan)
	}
}

// The table does not grow while as many records end as are made: nothing keeps a vacuum
// from using their space again. It is done by hand here, since when the server does it
// depends on counts that it learns late. And an update touches no index where its page has
// room.
func TestGrowth(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	s := open(t, pstore.Config{URL: server.URL("postgres") + conns, Schema: "s"})
	ctx := context.Background()
	round := func(n int) {
		for i := range 400 {
			c := claim(fmt.Sprint(n, "-", i))
			c.Retention = time.Millisecond
			if _, err := s.Acquire(ctx, c); err != nil {
				t.Fatal(err)
			}
			if err := s.Complete(ctx, c.Lease(), &idem.Response{Status: 200, Body: make([]byte, 300)}); err != nil {
				t.Fatal(err)
			}
		}
		server.Do("UPDATE s.sweeper SET next = 0")
		if _, _, err := s.SweepOnce(ctx, 1<<20, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	var sizes []string
	for n := range 8 {
		round(n)
		server.Do("VACUUM s.record")
		sizes = append(sizes, server.Do("SELECT pg_total_relation_size('s.record')"))
	}
	var early, late int64
	if _, err := fmt.Sscan(sizes[2]+" "+sizes[7], &early, &late); err != nil {
		t.Fatal(err)
	}
	if late > 2*early {
		t.Errorf("the table grows: %v bytes after each round", sizes)
	}
	t.Logf("bytes after each round: %v; HOT updates: %s", sizes,
		server.Do("SELECT n_tup_hot_upd::text || ' of ' || n_tup_upd FROM pg_stat_all_tables WHERE schemaname = 's' AND relname = 'record'"))
}

var aFunction = regexp.MustCompile(`(?s)CREATE FUNCTION [^;]*?\.(acquire|settle|renew|purge|enter)\(.*?\nEND \$\$;`)

// The suite finds what is wrong with a function: each of these faults by a case that
// is there for it.
func TestContractFindsPlantedFaults(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	for name, fault := range map[string]struct{ old, bad, found string }{
		"complete by anyone":      {"ELSIF cur.owner <> o THEN", "ELSIF cur.owner <> o AND event <> 2 THEN", "StaleOwner"},
		"release by anyone":       {"ELSIF cur.owner <> o THEN", "ELSIF cur.owner <> o AND event <> 3 THEN", "StaleOwner"},
		"payload is ignored":      {"same := cur.fingerprint = f AND", "same := ", "Mismatch"},
		"identity is ignored":     {"AND cur.binding = b", "", "Mismatch"},
		"recipe is ignored":       {"AND cur.recipe = r;", ";", "Cells"},
		"a lease never lapses":    {"lapsed := cur.state = 1 AND at >= cur.until;", "lapsed := false;", "StaleOwner"},
		"the owner is forgotten":  {"ELSIF cur.owner = o THEN\n        verdict := 1;", "ELSIF false THEN\n        verdict := 1;", "Cells"},
		"unknown runs again":      {"IF cur.state = 0 OR (lapsed", "IF cur.state = 0 OR cur.state = 3 OR (lapsed", "Cells"},
		"the count is forgotten":  {"tries := tries + 1;", "tries := 1;", "Attempts"},
		"what is held ends":       {"state = 3, until = NULL, updated = at, expires = NULL", "state = 3, until = NULL, updated = at, expires = at + keep", "HeldForever"},
		"expired is forgotten":    {"expires = at + keep + rem", "expires = at + keep", "Horizons"},
		"resolved is the owner's": {"cur.owner := '00000000-0000-0000-0000-000000000000';", "", "ResolveOwner"},
		"a resolve of anyone's":   {"ELSIF o <> cur.owner AND o <> '00000000-0000-0000-0000-000000000000' THEN", "ELSIF false THEN", "ResolveFrom"},
		"a resolve of no one's":   {"ELSIF o <> cur.owner AND o <> '00000000-0000-0000-0000-000000000000' THEN", "ELSIF o <> cur.owner THEN", "Resolve"},
		"the unknown is renewed":  {" OR (cur.holds AND at >= cur.until) THEN\n      RETURN NEXT 7", " THEN\n      RETURN NEXT 7", "Cells"},
		"a renewal of anyone's":   {"IF cur.owner <> a.owner OR cur.state", "IF cur.state", "BatchPartly"},
		"an entry ends sooner":    {"ELSE greatest(e.ends, till) END", "ELSE till END", "Registry"},
		"two insert":              {"ON CONFLICT (id) DO NOTHING;\n      IF FOUND THEN\n        -- It may", "ON CONFLICT (id) DO UPDATE SET owner = o;\n      IF FOUND THEN\n        -- It may", "OneWinner"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := harness(func(testing.TB) opened {
				return opened{config: pstore.Config{URL: server.URL("postgres") + conns}}
			})
			h.Claimants, h.Histories = 50, 1
			sound := h.New
			h.New = func(tb testing.TB) storetest.Store {
				s := sound(tb)
				planted := 0
				sql := pstore.SchemaSQL(s.(opened).config.Schema) //nolint:forcetypeassert // ours
				for _, function := range aFunction.FindAllString(sql, -1) {
					if n := strings.Count(function, fault.old); n > 0 {
						planted += n
						server.Do(strings.Replace(strings.ReplaceAll(function, fault.old, fault.bad), "CREATE", "CREATE OR REPLACE", 1))
					}
				}
				if planted != 1 {
					t.Fatalf("the fault is planted %d times", planted)
				}
				return s
			}
			for _, c := range storetest.Cases() {
				if c.Name == fault.found && c.Check(t, h) == nil {
					t.Errorf("the case %s passes all the same", c.Name)
				}
			}
		})
	}
}
