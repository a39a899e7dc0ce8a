package storelog

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/idemproxy/idemproxy/idem"
)

// Variable of the environment names the file.
const Variable = "PROXY_STORE_LOG"

// Log is a Sink that writes a file. A line is one write: what is written stays there when the
// process is killed.
type Log struct {
	file *os.File
	last atomic.Int64 // number of a call
}

// Open begins a file, or goes on with it.
func Open(name string) (*Log, error) {
	file, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600) //nolint:gosec // the test names it
	if err != nil {
		return nil, fmt.Errorf("the log of the store's calls: %w", err)
	}
	return &Log{file: file}, nil
}

// Now is the time of CLOCK_MONOTONIC.
func Now() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err) // every Linux has that clock
	}
	return time.Duration(t.Nano())
}

// Begin implements Sink.
func (l *Log) Begin(k idem.Key, e *Event) {
	e.Asked, e.Call = l.last.Add(1), Now()
	l.write(Line{State: Asked}, k, *e)
}

// End implements Sink.
func (l *Log) End(k idem.Key, e *Event, err error) {
	e.Ret = Now()
	line := Line{State: Told}
	if !e.Answered(err, false) {
		line.State = Nothing
	}
	l.write(line, k, *e)
}

// The states of a call.
const (
	Asked   = "asked"   // the answer is still to come
	Told    = "told"    // it is there, or the call has failed
	Nothing = "nothing" // certainly, nothing was done
)

// Line is a line of a file.
type Line struct {
	State       string `json:"state"`
	Number      int64  `json:"n"` // of the call: both its lines have it
	Key         Digest `json:"key"`
	What        string `json:"what"` // the event's kind, for who reads the file
	Owner       Digest `json:"owner"`
	Fingerprint Digest `json:"fingerprint"`
	Binding     Digest `json:"binding"`
	Event       Event  `json:"event"` // without what is above
}

// Digest is 16 bytes; all zero stands for nothing.
type Digest [16]byte

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(d[:])), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Digest) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err == nil && len(b) != len(d) {
		err = hex.ErrLength
	}
	if err != nil {
		return fmt.Errorf("the digest %q: %w", text, err)
	}
	copy(d[:], b)
	return nil
}

// digestOf is one of a token.
func digestOf(o idem.Owner) Digest {
	if o == (idem.Owner{}) {
		return Digest{}
	}
	sum := sha256.Sum256(o[:])
	return Digest(sum[:16])
}

func (l *Log) write(line Line, k idem.Key, e Event) {
	line.Number, line.Key, line.What, line.Owner = e.Asked, k.ID(), e.Kind.String(), digestOf(e.Owner)
	line.Fingerprint, line.Binding = Digest(e.Made.Fingerprint), Digest(e.Made.Binding)
	e.Owner, e.Made.Fingerprint, e.Made.Binding = idem.Owner{}, idem.Fingerprint{}, idem.Binding{}
	line.Event = e
	text, err := json.Marshal(line)
	if err == nil {
		_, err = l.file.Write(append(text, '\n'))
	}
	if err != nil { // a trace with holes would be taken for the store's fault
		panic(err)
	}
}
