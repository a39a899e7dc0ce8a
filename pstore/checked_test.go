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
