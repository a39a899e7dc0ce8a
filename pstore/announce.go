package pstore

import (
	"encoding/hex"
	"sync"

	"github.com/idemproxy/idemproxy/internal/failpoint"
)

// announcements are the keys whose attempts have ended here, for others who wait for
// them. They are not sent by the transactions that end attempts: those commit many at
// a time, but one that sends a notification waits for its turn with all others that
// do, until its commit is on disk and on the standbys. So they go together, in a
// transaction that writes nothing. If they are lost, who waits asks when the lease
// must have lapsed.
type announcements struct {
	mu   sync.Mutex
	keys []id // guarded by mu
	wake chan struct{}
}

func newAnnouncements() announcements { return announcements{wake: make(chan struct{}, 1)} }

// A notification takes less than 8,000 bytes, and more keys than tooMany are not told
// one by one.
const (
	keysAtOnce = 240
	tooMany    = 20 * keysAtOnce
)

// tell has others be told of a key.
func (s *Store) tell(k id) {
	a := &s.saying
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.keys) <= tooMany {
		a.keys = append(a.keys, k)
	}
	select {
	case a.wake <- struct{}{}:
	default: // it is awake
	}
}

// take is what is to be said next; nothing if there is nothing.
func (a *announcements) take() (payload string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.keys) > tooMany {
		a.keys = nil
		return anyRecord
	}
	n := min(len(a.keys), keysAtOnce)
	b := make([]byte, 0, 2*n*len(id{}))
	for _, k := range a.keys[:n] {
		b = hex.AppendEncode(b, k[:])
	}
	a.keys = append(a.keys[:0], a.keys[n:]...)
	return string(b)
}

// announce says what there is to be said, which is more the longer it takes.
func (s *Store) announce() {
	for {
		select {
		case <-s.closing.Done():
			return
		case <-s.saying.wake:
		}
		for payload := s.saying.take(); payload != "" && s.closing.Err() == nil; payload = s.saying.take() {
			failpoint.Reach("announce")
			ctx, cancel := s.bound(s.closing)
			// Who waits asks by itself in the end.
			_, _ = s.ask(ctx, s.sql.notify, newArgs(2).text(s.config.Schema).text(payload))
			cancel()
		}
	}
}
