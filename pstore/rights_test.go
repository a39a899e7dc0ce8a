package pstore_test

import (
	"context"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/dbtest"
	"github.com/idemproxy/idemproxy/pstore"
)

// documented are the statements by which docs/postgres.md gives a role what it needs.
func documented(tb testing.TB) (grants []string) {
	tb.Helper()
	text, err := os.ReadFile("../docs/postgres.md")
	if err != nil {
		tb.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```sql\n(GRANT USAGE .*?)```").FindSubmatch(text)
	if block == nil {
		tb.Fatal("docs/postgres.md grants nothing")
	}
	for line := range strings.Lines(string(block[1])) {
		grant, _, _ := strings.Cut(line, ";")
		grants = append(grants, strings.ReplaceAll(grant, "idemproxy.", "s."))
	}
	for i, grant := range grants {
		grants[i] = strings.Replace(grant, "SCHEMA idemproxy", "SCHEMA s", 1)
	}
	return grants
}

// rightsRig is a schema whose owner is not who serves, and nobody has a right by default.
func rightsRig(t *testing.T) (server *dbtest.Postgres, owner, proxy pstore.Config) {
	t.Helper()
	server = dbtest.StartPostgres(t)
	server.Do("CREATE ROLE owner LOGIN", "CREATE ROLE proxy LOGIN", "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
		"GRANT CREATE ON DATABASE postgres TO owner", "ALTER DEFAULT PRIVILEGES FOR ROLE owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
	as := func(role string) pstore.Config {
		return pstore.Config{URL: "postgres://" + role + "@" + server.Addr + "/postgres" + conns, Schema: "s"}
	}
	return server, as("owner"), as("proxy")
}

// everything does what a store can do.
func everything(t *testing.T, s *pstore.Store) {
	t.Helper()
	ctx := context.Background()
	c := completed(t, s, "k")
	cached(t, s, c)
	under, held, given := acquired(t, s, "under way"), acquired(t, s, "held"), acquired(t, s, "given back")
	for name, call := range map[string]func() error{
		"renew":   func() error { return s.Renew(ctx, []idem.Lease{under.Lease()})[0] },
		"release": func() error { return s.Release(ctx, given.Lease()) },
		"hold":    func() error { return s.Hold(ctx, held.Lease()) },
		"enter":   func() error { return s.Enter(ctx, "a", "b", 0) },
		"again":   func() error { return s.Enter(ctx, "a", "c", time.Hour) },
		"entries": func() error { _, err := s.Entries(ctx); return err },
		"strike":  func() error { return s.Strike(ctx, "a") },
		"get":     func() error { _, err := s.Get(ctx, c.Key); return err },
		"list":    func() error { return s.List(ctx, func(*idem.Record) bool { return true }) },
		"sweep":   func() error { _, _, err := s.SweepOnce(ctx, 1, 0, 0); return err },
	} {
		if err := call(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	acquire(t, s, given, idem.VerdictAcquired)
	if err := s.Resolve(ctx, held.Key, idem.Owner{}, nil); err != nil {
		t.Errorf("resolve: %v", err)
	}
	if err := s.Purge(ctx, c.Key); err != nil {
		t.Errorf("purge: %v", err)
	}
}

// The rights of docs/postgres.md are enough.
func TestRights(t *testing.T) {
	t.Parallel()
	server, owner, proxy := rightsRig(t)
	if _, err := pstore.Migrate(context.Background(), proxy); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Fatalf("a role without rights makes the schema: %v", err)
	}
	if _, err := pstore.Migrate(context.Background(), owner); err != nil {
		t.Fatal(err)
	}
	server.Do(documented(t)...)
	everything(t, open(t, proxy))
}

// A role that lacks a right is told which, and acquires nothing: what it executed it could
// perhaps not record. When it has the right, it serves.
func TestMissingRightsAreSaid(t *testing.T) {
	t.Parallel()
	server, owner, proxy := rightsRig(t)
	if _, err := pstore.Migrate(context.Background(), owner); err != nil {
		t.Fatal(err)
	}
	server.Do(documented(t)...)
	s := open(t, proxy)
	for _, right := range []struct{ revoke, grant, said string }{
		{"REVOKE UPDATE ON s.record FROM", "GRANT UPDATE ON s.record TO", "UPDATE on s.record"},
		{"REVOKE SELECT ON s.record FROM", "GRANT SELECT ON s.record TO", "SELECT on s.record"},
		{"REVOKE DELETE ON s.record FROM", "GRANT DELETE ON s.record TO", "DELETE on s.record"},
		{"REVOKE INSERT ON s.entry FROM", "GRANT INSERT ON s.entry TO", "INSERT on s.entry"},
		{
			"REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA s FROM", "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA s TO",
			"EXECUTE on s.settle",
		},
		{"REVOKE SELECT ON s.meta FROM", "GRANT SELECT ON s.meta TO", "permission denied for table meta"},
		{"REVOKE USAGE ON SCHEMA s FROM", "GRANT USAGE ON SCHEMA s TO", "permission denied for schema s"},
	} {
		server.Do(right.revoke + " proxy")
		lacking, err := pstore.New(proxy)
		if err != nil {
			t.Fatal(err)
		}
		_, err = lacking.Acquire(context.Background(), claim("new"))
		if !errors.Is(err, idem.ErrUnavailable) || !errors.Is(err, idem.ErrRefused) || !strings.Contains(err.Error(), right.said) {
			t.Errorf("%s: acquire: %v; want that it lacks %s", right.revoke, err, right.said)
		}
		// And who serves already hears of it by what fails.
		c := claim("served")
		_, _ = s.Acquire(context.Background(), c)
		_ = s.Complete(context.Background(), c.Lease(), &idem.Response{Status: 200})
		if err := s.Ping(context.Background()); err == nil && strings.Contains(right.said, "UPDATE") {
			t.Errorf("%s: who serves is ready", right.revoke)
		}
		server.Do(right.grant + " proxy")
		awaitReady(t, lacking)
		awaitReady(t, s)
		if err := lacking.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Purge(context.Background(), c.Key); err != nil && !errors.Is(err, idem.ErrNotFound) {
			t.Error(err)
		}
	}
	everything(t, s)
}

// Without the right to sweep the table grows. Who serves is told, once.
func TestASweepThatFailsIsTold(t *testing.T) {
	t.Parallel()
	server, owner, proxy := rightsRig(t)
	if _, err := pstore.Migrate(context.Background(), owner); err != nil {
		t.Fatal(err)
	}
	server.Do(documented(t)...)
	server.Do("REVOKE UPDATE ON s.sweeper FROM proxy")
	var log written
	proxy.Logger = zerolog.New(&log).Level(zerolog.WarnLevel)
	open(t, proxy)
	until(t, "it is said that nothing is swept", func() bool {
		return log.has(`"event":"sweep_failed"`) && log.has("permission denied for table sweeper")
	})
}

// What the server says may have the password in it; errors do not.
func TestErrorsHideThePassword(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	s, err := pstore.New(pstore.Config{URL: "postgres://postgres:hunter2@" + server.Addr + "/hunter2", Migrate: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	err = s.Ping(context.Background())
	if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("%v; want why it cannot connect, without the password", err)
	}
}
