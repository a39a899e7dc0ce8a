package tracetest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/storelog"
)

// Read adds what one life of a process has written to a file, by package storelog. ended is
// when the process was certainly gone, on that package's clock, and now for one that lives:
// a call whose answer is not there may have taken effect until then, or a little later.
//
// The last line may be cut off. A file that is not there is an error.
func (r *Recorder) Read(file string, ended time.Duration) error {
	text, err := os.ReadFile(file) //nolint:gosec // the test names it
	if err != nil {
		return fmt.Errorf("the log of a process: %w", err)
	}
	calls, err := parseLog(text)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.processes++
	for _, line := range calls {
		if line.State == storelog.Nothing {
			continue
		}
		e := line.Event
		if line.State == storelog.Asked {
			e.Failed, e.Ret = true, max(ended, e.Call)
		}
		e.Process, e.Asked, e.Call, e.Ret = r.processes, 0, e.Call-r.base, e.Ret-r.base
		e.Owner = idem.Owner(line.Owner)
		e.Made.Fingerprint, e.Made.Binding = idem.Fingerprint(line.Fingerprint), idem.Binding(line.Binding)
		k, err := idem.ParseKey(hex.EncodeToString(line.Key[:]))
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if r.traces[k] = append(r.traces[k], e); line.State == storelog.Asked && e.Kind == Kind(idem.EventAcquire) {
			r.cut[k] = append(r.cut[k], e)
		}
	}
	return nil
}

var errAnswersNothing = errors.New("an answer to nothing that was asked")

// parseLog is the last line of each call, in the order in which they were made.
func parseLog(text []byte) (calls []storelog.Line, err error) {
	at := map[int64]int{}
	for {
		one, rest, whole := bytes.Cut(text, []byte("\n"))
		if !whole {
			return calls, nil
		}
		text = rest
		var line storelog.Line
		if err := json.Unmarshal(one, &line); err != nil {
			return nil, fmt.Errorf("the line %q: %w", one, err)
		}
		i, asked := at[line.Number]
		switch {
		case line.State == storelog.Asked:
			at[line.Number] = len(calls)
			calls = append(calls, line)
		case !asked:
			return nil, fmt.Errorf("%w: %q", errAnswersNothing, one)
		default:
			calls[i] = line
		}
	}
}
