package rstore_test

import (
	"encoding/hex"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// Each record is listed once, in however many keys it is, and nothing else is:
// not what is entered beside them, nor what other namespaces have.
func TestListShowsRecordsOnce(t *testing.T) {
	t.Parallel()
	cluster, _ := redistest.Cluster(t, 3)
	server := redistest.Start(t)
	for name, url := range map[string]string{"one server": server.URL(), "a Cluster": cluster} {
		s := open(t, rstore.Config{URL: url, Namespace: "a"})
		near := open(t, rstore.Config{URL: url, Namespace: "a:b"})
		done(t, near, remembered("of a neighbour", time.Hour), &idem.Response{Status: 200})
		if err := s.Enter(t.Context(), strings.Repeat("0", 32), "text", time.Hour); err != nil {
			t.Fatal(err)
		}
		both, one, over, long := remembered("both", time.Hour), claim("one"), remembered("over", time.Millisecond), claim("long")
		long.Key = long.Key.InScope(strings.Repeat("s", 1000))
		want := map[idem.Key]idem.State{
			both.Key: idem.Completed, one.Key: idem.Completed, over.Key: idem.Expired, long.Key: idem.Completed,
		}
		for _, c := range []idem.Claim{both, one, over, long} {
			done(t, s, c, &idem.Response{Status: 200, Body: make([]byte, 4096)})
		}
		<-time.After(5 * time.Millisecond) // over's retention
		seen := map[idem.Key]int{}
		err := s.List(t.Context(), func(r *idem.Record) bool {
			if seen[r.Key]++; r.State != want[r.Key] || seen[r.Key] != 1 || r.Response != nil {
				t.Errorf("%s: %v is listed as %v, for the %d. time", name, r.Key, r.State, seen[r.Key])
			}
			return true
		})
		if err != nil || len(seen) != len(want) {
			t.Errorf("%s: %d of %d records are listed, %v", name, len(seen), len(want), err)
		}
	}
}

// A burst that meets servers without the script loads it once and sends what did
// not run once more, all together.
func TestRenewalsLoadTheirScriptOnce(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	cluster, nodes := redistest.Cluster(t, 3)
	for name, c := range map[string]struct {
		url     string
		servers []*redistest.Server
	}{"one server": {server.URL(), []*redistest.Server{server}}, "a Cluster": {cluster, nodes}} {
		s := open(t, rstore.Config{URL: c.url})
		leases := make([]idem.Lease, 100)
		for i := range leases {
			one := claim(strings.Repeat("k", i+1))
			if _, err := s.Acquire(t.Context(), one); err != nil {
				t.Fatal(err)
			}
			leases[i] = one.Lease()
		}
		stranger := leases[7]
		stranger.Owner = idem.NewOwner()
		leases = append(leases, stranger)
		for _, one := range c.servers {
			one.Do("SCRIPT", "FLUSH")
			one.Do("CONFIG", "RESETSTAT")
		}
		for i, err := range s.Renew(t.Context(), leases) {
			if lost := i == 100; (err != nil) != lost {
				t.Errorf("%s: renewal %d: %v", name, i, err)
			}
		}
		for _, one := range c.servers {
			if calls := one.Calls(); calls["script|load"] != 1 || calls["eval"] != 0 {
				t.Errorf("%s: %d loads and %d evaluations, want 1 and none", name, calls["script|load"], calls["eval"])
			}
		}
	}
}

// Who looks a digest up is told if not all names were looked at.
func TestFindGivesUp(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := open(t, rstore.Config{URL: server.URL()})
	c := claim("k")
	must(t, s, c)
	id := c.Key.ID()
	if key, err := s.Find(t.Context(), id[:6]); err != nil || key != c.Key {
		t.Errorf("found %q, %v", key.Value(), err)
	}
	s.FindFor(0)
	if _, err := s.Find(t.Context(), id[:6]); !errors.Is(err, idem.ErrGaveUp) {
		t.Errorf("%v, want ErrGaveUp", err)
	}
}

// What is not ours among the names of a list is passed over. A record of ours that cannot be read
// is named in Redis's words, once all others were shown.
func TestListsPassOddValues(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := open(t, rstore.Config{URL: server.URL()})
	want := map[idem.Key]int{}
	for _, name := range []string{"a", "b", "c"} {
		want[completed(t, s, name).Key] = 1
	}
	list := func() (map[idem.Key]int, error) {
		seen := map[idem.Key]int{}
		err := s.List(t.Context(), func(r *idem.Record) bool { seen[r.Key]++; return true })
		return seen, err
	}
	id := claim("a").Key.ID()
	prefix, digits := strings.TrimSuffix(s.Name(claim("a").Key), hex.EncodeToString(id[:])), strings.Repeat("0", 32)
	server.Do("LPUSH", prefix+digits, "x")
	server.Do("SET", prefix+strings.Repeat("z", 32), "hello")
	server.Do("LPUSH", prefix+hex.EncodeToString(id[:6])+strings.Repeat("-", 20), "x")
	if seen, err := list(); err != nil || !maps.Equal(seen, want) {
		t.Errorf("beside what is not ours: %v are listed, want %v; %v", seen, want, err)
	}
	if key, err := s.Find(t.Context(), id[:6]); err != nil || key != claim("a").Key {
		t.Errorf("found %v, %v", key, err)
	}
	odd := prefix + hex.EncodeToString(id[:6]) + strings.Repeat("0", 20)
	server.Do("SET", odd, "hello")
	seen, err := list()
	if !errors.Is(err, idem.ErrUnread) || !strings.Contains(err.Error(), odd) || !maps.Equal(seen, want) {
		t.Errorf("beside one that cannot be read: %v are listed, want %v; %v", seen, want, err)
	}
	if key, err := s.Find(t.Context(), id[:6]); err != nil || key != claim("a").Key {
		t.Errorf("beside one that cannot be read, found %v, %v", key, err)
	}
	server.Do("DEL", s.Name(claim("a").Key))
	if _, err := s.Find(t.Context(), id[:6]); !errors.Is(err, idem.ErrUnread) || !strings.Contains(err.Error(), odd) {
		t.Errorf("only what cannot be read is there: %v", err)
	}
}
