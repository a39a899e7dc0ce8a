package history

import (
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/internal/dbtest"
)

// The checker finds what is wrong with a server's functions, with the lag that
// TestPostgres allows. A process that does not hear what another one purges takes
// histories that are longer than that lag: TestPostgresLosses.
func TestPlantedBugsOfPostgres(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	for name, bug := range map[string]struct{ schema, function, old, bad string }{
		"acquire does not look at a lease":      {"lease", "acquire", "ELSIF cur.owner = o THEN", "ELSIF true THEN"},
		"acquire does not look at the payload":  {"payload", "acquire", "same := cur.fingerprint = f AND", "same := "},
		"acquire forgets the count":             {"count", "acquire", "tries := tries + 1;", "tries := 1;"},
		"acquire executes what is held":         {"held", "acquire", "IF cur.state = 0 OR (lapsed AND NOT cur.holds)", "IF cur.state IN (0, 3) OR lapsed"},
		"settle does not look at the owner":     {"owner", "settle", "ELSIF cur.owner <> o THEN", "ELSIF false THEN"},
		"nothing is remembered after retention": {"remember", "settle", "expires = at + keep + rem", "expires = at + keep"},
		"settle resolves another attempt":       {"another", "settle", "ELSIF o <> cur.owner AND o <> '00000000-0000-0000-0000-000000000000' THEN", "ELSIF false THEN"},
		"settle resolves what is in progress":   {"resolve", "settle", "IF state_now <> 3 THEN", "IF state_now NOT IN (1, 3) THEN"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all, _ := postgresProcessesIn(t, server.Addr, bug.schema)
			sound := server.Do("SELECT pg_get_functiondef('" + bug.schema + "." + bug.function + "'::regproc)")
			if n := strings.Count(sound, bug.old); n != 1 {
				t.Fatalf("the bug is planted %d times", n)
			}
			server.Do(strings.Replace(sound, bug.old, bug.bad, 1))
			findsBoth(t, func() world { return world{processes: all, lag: time.Second} }, "")
		})
	}
}
