package estore

import (
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/internal/outage"
)

// engineLog passes on what matters. The engine calls Fatalf when it cannot
// write its log any more; there is then nothing left to promise, and a restart
// is the way to find out what the disk holds.
type engineLog struct {
	log  zerolog.Logger
	exit func(int)
	now  func() time.Time

	mu     sync.Mutex
	errors map[string]*engineErrors // by format; guarded by mu
}

// engineErrors are errors of one kind. The engine tries again at once what failed, so that on a
// disk without room there are thousands a second.
type engineErrors struct {
	lines outage.Lines
	last  time.Time
	n     int // since the last line
}

// engineErrorsEnd is how long after an error of its kind another one is news.
const engineErrorsEnd = 5 * time.Minute

func newEngineLog(log zerolog.Logger, exit func(int)) *engineLog {
	return &engineLog{log: log, exit: exit, now: time.Now, errors: map[string]*engineErrors{}}
}

// Infof implements pebble.Logger.
func (*engineLog) Infof(string, ...any) {}

// Errorf implements pebble.Logger: the first error of a kind, and then ever fewer.
func (l *engineLog) Errorf(format string, args ...any) {
	if n, worth := l.worth(format); worth {
		l.log.Error().Str("event", "store_engine_error").Int("errors", n).Msgf(format, args...)
	}
}

// worth counts an error, and says whether it is worth a line, which stands for so many.
func (l *engineLog) worth(kind string) (n int, yes bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.errors[kind]
	if e == nil {
		e = &engineErrors{}
		l.errors[kind] = e
	}
	at := l.now()
	if at.Sub(e.last) > engineErrorsEnd {
		e.lines.Over()
	}
	e.last = at
	e.n++
	if !e.lines.Worth(at) {
		return 0, false
	}
	n, e.n = e.n, 0
	return n, true
}

// Fatalf implements pebble.Logger.
func (l *engineLog) Fatalf(format string, args ...any) {
	l.log.Error().Str("event", "store_engine_failed").Msgf(format, args...)
	l.exit(1)
}
