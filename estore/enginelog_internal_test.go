package estore

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// An engine that tries again at once, and fails each time, does not fill the log: there are ever
// fewer lines of one kind, each of which says how many errors it stands for.
func TestEngineErrorsBecomeFewer(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	at := time.Now()
	l := newEngineLog(zerolog.New(&out), nil)
	l.now = func() time.Time { return at }
	said := func() (texts []string, errors int) {
		t.Helper()
		for line := range bytes.Lines(out.Bytes()) {
			var e struct {
				Event, Message string
				Errors         int
			}
			if err := json.Unmarshal(line, &e); err != nil || e.Event != "store_engine_error" {
				t.Fatalf("%s: %v", line, err)
			}
			texts, errors = append(texts, e.Message), errors+e.Errors
		}
		out.Reset()
		return texts, errors
	}
	const n = 10_000
	for i := range n { // in ten seconds
		l.Errorf("background error: %s", fmt.Sprint("no space: ", i))
		at = at.Add(time.Millisecond)
	}
	l.Errorf("another kind")
	texts, errors := said()
	if len(texts) != 5 || errors < n/2 || texts[0] != "background error: no space: 0" || texts[4] != "another kind" {
		t.Errorf("of %d errors there are the lines %q, for %d", n, texts, errors)
	}
	at = at.Add(time.Hour)
	for range 2 {
		l.Errorf("background error: %s", "again")
		at = at.Add(1100 * time.Millisecond)
	}
	if texts, errors := said(); len(texts) != 2 || errors <= 2 {
		t.Errorf("an hour later: %q, for %d", texts, errors)
	}
}
