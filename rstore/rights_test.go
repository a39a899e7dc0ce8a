package rstore_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// documented are the rights that docs/redis.md says an ACL user needs.
func documented(tb testing.TB) []string {
	tb.Helper()
	text, err := os.ReadFile("../docs/redis.md")
	if err != nil {
		tb.Fatal(err)
	}
	m := regexp.MustCompile("(?s)An ACL user needs `~idem:\\*`.*?and\\s+`(\\+[^`]*)`").FindSubmatch(text)
	if m == nil {
		tb.Fatal("docs/redis.md names no rights")
	}
	return strings.Fields(string(m[1]))
}

// A user with the rights that the documents name can do all that a store does,
// and the documents name none that nothing needs.
func TestTheDocumentedRightsAreThoseNeeded(t *testing.T) {
	t.Parallel()
	rights := documented(t)
	try := func(t *testing.T, rights []string) (failed error) {
		t.Helper()
		server := redistest.Start(t, append([]string{"--user", "proxy", "on", ">pw", "~idem:*", "resetchannels", "-@all"}, rights...)...)
		s := open(t, rstore.Config{URL: "redis://proxy:pw@" + server.Addr + "/1", Timeout: 500 * time.Millisecond})
		check := func(err error) {
			if failed == nil {
				failed = err
			}
		}
		ctx := t.Context()
		both, held, old := remembered("both", time.Hour), claim("held"), legacy("old")
		old.HoldOnLapse = true
		for _, c := range []idem.Claim{both, held} {
			_, err := s.Acquire(ctx, c)
			check(err)
		}
		check(s.Renew(ctx, []idem.Lease{both.Lease()})[0])
		check(s.Complete(ctx, both.Lease(), &idem.Response{Status: 200}))
		_, err := s.Acquire(ctx, both)
		check(err)
		_, err = s.Get(ctx, both.Key)
		check(err)
		check(s.Hold(ctx, held.Lease()))
		check(s.Resolve(ctx, held.Key, idem.Owner{}, nil))
		if failed == nil {
			// A record of the release before, in database 1 as the others.
			before{t, server, s}.acquire(old)
			server.Do("COPY", s.Name(old.Key), s.Name(old.Key), "DB", "1")
			_, err = s.Acquire(ctx, old)
			check(err)
			server.Do("SCRIPT", "FLUSH")
			check(s.Renew(ctx, []idem.Lease{old.Lease()})[0])
			server.Do("SCRIPT", "FLUSH")
			_, err = s.Get(ctx, both.Key)
			check(err)
		}
		check(s.Purge(ctx, both.Key))
		check(s.Enter(ctx, "name", "text", time.Hour))
		check(s.Enter(ctx, "name", "other", time.Hour))
		_, err = s.Entries(ctx)
		check(err)
		check(s.Strike(ctx, "name"))
		check(s.List(ctx, func(*idem.Record) bool { return true }))
		check(s.Ping(ctx))
		return failed
	}
	if err := try(t, rights); err != nil {
		t.Fatalf("with %v: %v", rights, err)
	}
	for i, right := range rights {
		// Seen without an error: rueidis connects without these, or does not say so.
		if right == "+hello" || right == "+client" || right == "+ping" {
			continue
		}
		t.Run(right, func(t *testing.T) {
			t.Parallel()
			without := append(append([]string{}, rights[:i]...), rights[i+1:]...)
			if err := try(t, without); err == nil {
				t.Errorf("%s is not needed", right)
			}
		})
	}
}
