package pstore_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/internal/dbtest"
	"github.com/idemproxy/idemproxy/internal/toxitest"
	"github.com/idemproxy/idemproxy/pstore"
)

// made counts schemas: each store of a test has its own, unless it is to share one.
var made atomic.Int64

func schema() string { return fmt.Sprintf("t%d", made.Add(1)) }

// conns bounds what each store of a test takes of the server.
const conns = "?pool_max_conns=4"

func open(tb testing.TB, c pstore.Config) *pstore.Store {
	tb.Helper()
	c.Migrate = true
	if c.Schema == "" {
		c.Schema = schema()
	}
	s, err := pstore.New(c)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	awaitReady(tb, s)
	return s
}

func awaitReady(tb testing.TB, s *pstore.Store) {
	tb.Helper()
	var err error
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if err = s.Ping(context.Background()); err == nil {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("the store does not become ready: %v", err)
		}
	}
}

// opened remembers how a store was made, for the harness to make another.
type opened struct {
	*pstore.Store
	config pstore.Config
	link   *toxitest.Link
}

// TestContract runs the suite on one server, every store with a schema and a
// network of its own.
func TestContract(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	for _, level := range []string{"read committed", "repeatable read", "serializable"} {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			h := harness(func(tb testing.TB) opened {
				link := toxitest.New(tb, server.Addr)
				return opened{link: link, config: pstore.Config{URL: "postgres://postgres@" + link.Addr + "/postgres" + conns +
					"&options=-c%20default_transaction_isolation%3D" + url(level)}}
			})
			if missing := h.Missing(t); len(missing) != 0 {
				t.Fatalf("the harness lacks %v", missing)
			}
			storetest.Run(t, h)
		})
	}
}

func url(level string) string {
	out := ""
	for _, c := range level {
		if c == ' ' {
			out += "%5C%20"
		} else {
			out += string(c)
		}
	}
	return out
}

func harness(server func(testing.TB) opened) storetest.Harness {
	return storetest.Harness{
		New: func(tb testing.TB) storetest.Store {
			o := server(tb)
			o.config.Schema = schema()
			o.Store = open(tb, o.config)
			return o
		},
		Tick: 80 * time.Millisecond,
		Pass: time.Sleep,
		Second: func(tb testing.TB, first storetest.Store) storetest.Store {
			o := first.(opened) //nolint:forcetypeassert // ours
			o.Store = open(tb, o.config)
			return o
		},
		Reopen: func(tb testing.TB, old storetest.Store) storetest.Store {
			o := old.(opened) //nolint:forcetypeassert // ours
			_ = o.Close()
			o.Store = open(tb, o.config)
			return o
		},
		Sever: func(s storetest.Store) func() {
			return s.(opened).link.Cut() //nolint:forcetypeassert // ours
		},
		Histories: 20,
	}
}

func claim(name string) idem.Claim {
	key, err := idem.ParseKey(name)
	if err != nil {
		panic(err)
	}
	return idem.Claim{Key: key, Owner: idem.NewOwner(), TTL: time.Minute, Retention: time.Hour}
}

func acquire(tb testing.TB, s *pstore.Store, c idem.Claim, want idem.Verdict) idem.Outcome {
	tb.Helper()
	c.Owner = idem.NewOwner()
	out, err := s.Acquire(context.Background(), c)
	if err != nil || out.Kind != want {
		tb.Fatalf("acquire %s: %v, %v, want %v", c.Key, out.Kind, err, want)
	}
	return out
}

// acquired has a key under way.
func acquired(tb testing.TB, s *pstore.Store, name string) idem.Claim {
	tb.Helper()
	c := claim(name)
	if out, err := s.Acquire(context.Background(), c); err != nil || out.Kind != idem.VerdictAcquired {
		tb.Fatalf("acquire: %v, %v", out.Kind, err)
	}
	return c
}

// completed puts a response under name.
func completed(tb testing.TB, s *pstore.Store, name string) idem.Claim {
	tb.Helper()
	c := acquired(tb, s, name)
	if err := s.Complete(context.Background(), c.Lease(), &idem.Response{Status: 200, Body: []byte(name)}); err != nil {
		tb.Fatal(err)
	}
	return c
}

// until asks for something until it is so.
func until(tb testing.TB, what string, so func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(time.Minute); !so(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("it is not so: %s", what)
		}
	}
}

// cached has a replay of c answered from memory.
func cached(tb testing.TB, s *pstore.Store, c idem.Claim) {
	tb.Helper()
	until(tb, "the replay is answered from memory", func() bool { return acquire(tb, s, c, idem.VerdictCompleted).Local })
}

// Whoever changes a completed record, by whatever means: it is not replayed from any
// process's memory any more.
func TestCacheHearsOfChangesByAnyone(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	config := pstore.Config{URL: server.URL("postgres") + conns, Schema: "shared"}
	s, other := open(t, config), open(t, config)
	where := func(c idem.Claim) string { return fmt.Sprintf(" WHERE id = '%x'", c.Key.ID()) }
	for name, change := range map[string]func(c idem.Claim){
		"DELETE":     func(c idem.Claim) { server.Do("DELETE FROM shared.record" + where(c)) },
		"DELETE all": func(idem.Claim) { server.Do("DELETE FROM shared.record") },
		"TRUNCATE":   func(idem.Claim) { server.Do("TRUNCATE shared.record") },
		"UPDATE":     func(c idem.Claim) { server.Do("UPDATE shared.record SET state = 0" + where(c)) },
		"purge elsewhere": func(c idem.Claim) {
			if err := other.Purge(context.Background(), c.Key); err != nil {
				t.Error(err)
			}
		},
		"purge here": func(c idem.Claim) {
			if err := s.Purge(context.Background(), c.Key); err != nil {
				t.Error(err)
			}
		},
		"unheard, after all connections were ended": func(c idem.Claim) {
			server.Do("SET session_replication_role = replica; DELETE FROM shared.record" + where(c) +
				"; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()")
		},
	} {
		c := completed(t, s, "key of "+name)
		cached(t, s, c)
		change(c)
		until(t, name+" is heard", func() bool {
			c.Owner = idem.NewOwner()
			out, err := s.Acquire(context.Background(), c)
			return err == nil && out.Kind == idem.VerdictAcquired
		})
	}
}

// More than a notification can name: everything is forgotten.
func TestCacheHearsOfManyDeletions(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	s := open(t, pstore.Config{URL: server.URL("postgres") + conns, Schema: "shared"})
	var claims []idem.Claim
	for i := range 1200 {
		claims = append(claims, completed(t, s, fmt.Sprint(i)))
	}
	for _, n := range []int{300, 900} { // in several notifications; and too many
		for _, c := range claims[:n] {
			cached(t, s, c)
		}
		list := ""
		for _, c := range claims[:n] {
			list += fmt.Sprintf(",'%x'", c.Key.ID())
		}
		if n == 900 {
			list = ""
			server.Do("DELETE FROM shared.record")
		} else {
			server.Do("DELETE FROM shared.record WHERE id IN (" + list[1:] + ")")
		}
		for _, c := range claims[:n] {
			until(t, "a deletion is heard", func() bool {
				c.Owner = idem.NewOwner()
				out, err := s.Acquire(context.Background(), c)
				return err == nil && out.Kind == idem.VerdictAcquired
			})
		}
		claims = claims[n:]
	}
}

// Without its connection, or with one that has fallen silent, nothing is answered
// from memory.
func TestNoCacheWhileNothingIsHeard(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	link := toxitest.New(t, server.Addr)
	s := open(t, pstore.Config{URL: "postgres://postgres@" + link.Addr + "/postgres" + conns, Timeout: 300 * time.Millisecond})
	c := completed(t, s, "k")
	cached(t, s, c)
	remove := link.Add("silence", "timeout", "downstream", `{"timeout":0}`)
	until(t, "the silence is noticed", func() bool { return !s.Heard() })
	if _, err := s.Acquire(context.Background(), c); !errors.Is(err, idem.ErrUnavailable) {
		t.Errorf("a replay over a silent network: %v, want %v", err, idem.ErrUnavailable)
	}
	remove()
	mend := link.Cut()
	mend()
	awaitReady(t, s)
	cached(t, s, c)
	mend = link.Cut()
	until(t, "the cut is noticed", func() bool { return !s.Heard() })
	mend()
	awaitReady(t, s)
	cached(t, s, c)
}

// Another process's waiters hear of each ending, and of deletions.
func TestWaitersHearOfEndings(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	config := pstore.Config{URL: server.URL("postgres") + conns, Schema: "shared"}
	s, other := open(t, config), open(t, config)
	heard := make(chan [16]byte, 1000)
	other.OnChange(func(id [16]byte) { heard <- id })
	until(t, "notifications are heard", other.Heard)
	for name, end := range map[string]func(c idem.Claim) error{
		"complete": func(c idem.Claim) error {
			return s.Complete(context.Background(), c.Lease(), &idem.Response{Status: 200})
		},
		"release": func(c idem.Claim) error { return s.Release(context.Background(), c.Lease()) },
		"hold":    func(c idem.Claim) error { return s.Hold(context.Background(), c.Lease()) },
		"purge":   func(c idem.Claim) error { return s.Purge(context.Background(), c.Key) },
	} {
		c := acquired(t, s, "key of "+name)
		if err := end(c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for timeout := time.After(30 * time.Second); ; {
			select {
			case id := <-heard:
				if id != c.Key.ID() {
					continue
				}
			case <-timeout:
				t.Errorf("%s is not heard", name)
			}
			break
		}
	}
}

func TestBadURLs(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"", "http://x", "postgres:x", "postgres://127.0.0.1:notaport/x", "::", "postgres://h/d?sslmode=nonsense",
		"postgres://u:secret/word@h/d", "postgres://h/d?pool_max_conns=x",
	} {
		s, err := pstore.New(pstore.Config{URL: url})
		if err == nil {
			_ = s.Close()
			t.Errorf("%q is accepted", url)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("the error shows the password: %v", err)
		}
	}
	for _, name := range []string{"Upper", "pg_mine", `quo"te`, "a-b", strings.Repeat("x", 41)} {
		if _, err := pstore.New(pstore.Config{URL: "postgres://h/d", Schema: name}); !errors.Is(err, pstore.ErrSchema) {
			t.Errorf("the schema %q: %v, want %v", name, err, pstore.ErrSchema)
		}
	}
	for _, url := range []string{
		"postgres://u:p@h:1/d", "postgresql://h", "postgres://a:1,b:2/d?target_session_attrs=read-write&sslmode=require",
		"postgres:///d?host=/run/postgresql&user=u",
	} {
		if err := (&pstore.Config{URL: url}).Check(); err != nil {
			t.Errorf("%q: %v", url, err)
		}
	}
}

func TestFindings(t *testing.T) {
	t.Parallel()
	good := map[string]string{
		"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "synchronous_standby_names": "s", "standbys": "1",
		"default_transaction_isolation": "read committed", "autovacuum": "on", "track_counts": "on",
	}
	if found := pstore.Findings(good); len(found) != 0 {
		t.Errorf("a sound server: %v", found)
	}
	for _, bad := range [][2]string{
		{"fsync", "off"},
		{"full_page_writes", "off"},
		{"synchronous_commit", "off"},
		{"synchronous_commit", "local"},
		{"synchronous_commit", "remote_write"},
		{"synchronous_standby_names", ""},
		{"default_transaction_isolation", "serializable"},
		{"autovacuum", "off"},
		{"track_counts", "off"},
	} {
		settings := maps.Clone(good)
		settings[bad[0]] = bad[1]
		if found := pstore.Findings(settings); !slices.Equal(found, bad[:1]) {
			t.Errorf("%s = %q: %v", bad[0], bad[1], found)
		}
	}
}

// A response that this build cannot read is no outage: with fail_open its request would be
// executed again.
func TestUnreadableIsNoOutage(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	s := open(t, pstore.Config{URL: server.URL("postgres"), Schema: "s"})
	c := completed(t, s, "k")
	server.Do(`UPDATE s.record SET response = '\xffffffffffffffffffffffffffffffff'`)
	c.Owner = idem.NewOwner()
	if out, err := s.Acquire(context.Background(), c); err == nil || errors.Is(err, idem.ErrUnavailable) {
		t.Errorf("%+v %v, want an error that is no outage", out, err)
	}
}

// A record that cannot be read does not end a list for the others, and is named after them.
func TestListsPassWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	s := open(t, pstore.Config{URL: server.URL("postgres"), Schema: "s"})
	for i := range 5 {
		completed(t, s, fmt.Sprint(i))
	}
	odd := claim("2").Key.ID()
	server.Do(fmt.Sprintf(`UPDATE s.record SET key = '' WHERE id = '%x'`, odd))
	seen := 0
	err := s.List(t.Context(), func(*idem.Record) bool { seen++; return true })
	if !errors.Is(err, idem.ErrUnread) || !strings.Contains(err.Error(), fmt.Sprintf("%x", odd)) || seen != 4 {
		t.Errorf("%d of 4 are listed, %v", seen, err)
	}
	if _, err := s.Find(t.Context(), odd[:6]); !errors.Is(err, idem.ErrUnread) {
		t.Errorf("found by its digest: %v", err)
	}
}
