package pstore_test

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/internal/dbtest"
	"github.com/idemproxy/idemproxy/pstore"
)

// written is a log that is read while it is written.
type written struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (w *written) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.Write(b)
}

func (w *written) has(part string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Contains(w.text.String(), part)
}

func (w *written) count(part string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Count(w.text.String(), part)
}

// A server whose settings were changed by a reload, which ends no connection, is warned of:
// once, and again if the setting was mended in between.
func TestSettingsAreLookedAtWithoutAConnect(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t, "log_statement=all")
	var log written
	open(t, pstore.LookingEvery(time.Millisecond, pstore.Config{URL: server.URL("postgres") + conns, Logger: zerolog.New(&log)}))
	const finding = `"setting":"synchronous_commit","value":"off"`
	for round := 1; round <= 2; round++ {
		reloadWith(t, server, "synchronous_commit", "off")
		until(t, "the setting is warned of", func() bool { return log.has(finding) && log.count(finding) >= round })
		looksAgain(t, server)
		if n := log.count(finding); n != round {
			t.Fatalf("the setting was warned of %d times, want %d:\n%s", n, round, log.text.String())
		}
		reloadWith(t, server, "synchronous_commit", "on")
		looksAgain(t, server)
	}
	if n := log.count(`"setting":"fsync"`); n != 1 { // which was off all the time
		t.Errorf("fsync was warned of %d times, want once:\n%s", n, log.text.String())
	}
}

// reloadWith changes a setting. When it returns, every connection has it from its next
// statement on: the server tells its processes before it makes a new one.
func reloadWith(t *testing.T, server *dbtest.Postgres, setting, value string) {
	t.Helper()
	server.Do("ALTER SYSTEM SET "+setting+" = "+value, "SELECT pg_reload_conf()")
	until(t, "the server has reloaded", func() bool { return server.Do("SHOW "+setting) == value })
}

// looksAgain waits until the store has looked at the settings, from beginning to end.
func looksAgain(t *testing.T, server *dbtest.Postgres) {
	t.Helper()
	looks := func() int { return strings.Count(server.Log(), "FROM pg_stat_replication") }
	before := looks()
	until(t, "the store looks at the settings", func() bool { return looks() >= before+2 })
}

// A server that was restarted, or that has followed another, may have other settings: it
// is warned of them, also if no call was refused in between.
func TestSettingsAreLookedAtAnew(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	var log written
	open(t, pstore.Config{URL: server.URL("postgres"), Logger: zerolog.New(&log)})
	server.Do("ALTER SYSTEM SET synchronous_commit = off")
	server.Stop()
	server.Restart()
	for deadline := time.Now().Add(time.Minute); !log.has(`"setting":"synchronous_commit","value":"off"`); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("nobody was warned of what the restarted server risks:\n%s", log.text.String())
		}
	}
}
