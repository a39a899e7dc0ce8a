package differential_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sync"
	"time"
)

// atMost bounds waiting for other processes. It is reached only when something is
// wrong.
const atMost = 30 * time.Second

// record is a request as a reader wrote it down when it had read it whole.
type record struct {
	Method string `json:"method"`
	Target string `json:"target"` // in hex, as it was on the request line
	Length int    `json:"length"`
	SHA256 string `json:"sha256"`
	Port   int    `json:"port"` // where the connection came from
}

func recordOf(method, target string, body []byte, port int) record {
	sum := sha256.Sum256(body)
	return record{
		Method: method, Target: hex.EncodeToString([]byte(target)), Length: len(body), SHA256: hex.EncodeToString(sum[:]), Port: port,
	}
}

func (r record) json() []byte {
	text, _ := json.Marshal(r) //nolint:errchkjson // strings and numbers
	return text
}

func (r record) target() string {
	text, _ := hex.DecodeString(r.Target)
	return string(text)
}

func (r record) String() string {
	return fmt.Sprintf("%s %.100q with %d bytes (%.8s)", r.Method, r.target(), r.Length, r.SHA256)
}

// is compares what was read, whatever it came on.
func (r record) is(o record) bool {
	return r.Method == o.Method && r.Target == o.Target && r.Length == o.Length && r.SHA256 == o.SHA256
}

// records are what one reader wrote down, in its order.
type records struct {
	mu    sync.Mutex
	all   []record      // guarded by mu
	added chan struct{} // guarded by mu; closed at the next one
}

func newRecords() *records { return &records{added: make(chan struct{})} }

func (r *records) add(q record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, q)
	close(r.added)
	r.added = make(chan struct{})
}

// addLine adds what a reader printed.
func (r *records) addLine(line []byte) error {
	var q record
	if err := json.Unmarshal(line, &q); err != nil {
		return fmt.Errorf("%q: %w", line, err)
	}
	r.add(q)
	return nil
}

// await waits until a request for target was written down. What the reader read
// before it has been, too.
func (r *records) await(target string, end <-chan struct{}) error {
	for {
		r.mu.Lock()
		for i := len(r.all) - 1; i >= 0; i-- {
			if r.all[i].target() == target {
				r.mu.Unlock()
				return nil
			}
		}
		added := r.added
		r.mu.Unlock()
		select {
		case <-added:
		case <-end:
			return fmt.Errorf("%s was not read", target)
		}
	}
}

// take returns what was written down since the last time.
func (r *records) take() []record {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.all
	r.all = nil
	return all
}
