package proxy

import (
	"errors"
	"io"
	"sync"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// tape is a response that is passed on while it is recorded. One goroutine writes to it
// what the backend sends (see Server.record); any number of clients read it, from its
// beginning or from an event on, and wait for more at its end. All of them read the same
// bytes: what a client costs is its place.
//
// Its end is told to nobody before the attempt has ended: see Server.play. A response whose
// length is known would be complete with its last byte, so that byte is kept back as well.
type tape struct {
	// asked is whose response it is: who asks for another may not read it.
	asked tapeAsked
	// status, header and length, -1 if that is not known, are what each client gets.
	status int
	header []idem.Field
	length int
	// limit is up to how many bytes are kept. Of a longer response the last limit bytes
	// are there: the client that it was executed for holds it up, and is waited for; any
	// other that falls behind is cut off.
	limit int
	// readOn is how long it goes on without clients. deserted is called then.
	readOn   time.Duration
	deserted func()
	// hold counts the bytes that are in memory.
	hold func(n int)

	mu      sync.Mutex
	more    sync.Cond   // for readers: there is more, or something ended
	room    sync.Cond   // for the writer: the first reader went on, or left
	buf     []byte      // guarded by mu; what is appended never changes
	dropped int         // guarded by mu; bytes before buf
	ended   bool        // guarded by mu
	err     error       // guarded by mu; why it broke off
	first   *tapeReader // guarded by mu; nil once that has left
	readers int         // guarded by mu
	joined  int         // guarded by mu; readers besides the first
	alone   *time.Timer // guarded by mu; runs while there are no readers
	play    func()      // guarded by mu; goes on writing, once it is begun: see whenIdle
	latest  *time.Timer // guarded by mu; when play begins at the latest; nil if somebody else sees to it
	given   bool        // guarded by mu; given up, since there were none
	place   *place      // guarded by mu; what it shares of the first reader's
	played  bool        // guarded by mu; see vacate
}

// tapeAsked is what a request must have in common with the one that is executed.
type tapeAsked struct {
	fingerprint idem.Fingerprint
	binding     idem.Binding
	recipe      idem.Recipe
}

var (
	errFellBehind = errors.New("it fell behind a response that is too large to keep")
	errReaderGone = errors.New("the client has left")
)

// start is due before anything else.
func (t *tape) start() {
	t.more.L, t.room.L = &t.mu, &t.mu
}

// Write implements io.Writer, for the one who records. A piece longer than limit is written
// in several: it would never have room at once, however fast the first client reads.
func (t *tape) Write(p []byte) (int, error) {
	rest := p
	for t.limit > 0 && len(rest) > t.limit {
		t.write(rest[:t.limit])
		rest = rest[t.limit:]
	}
	t.write(rest)
	return len(p), nil
}

// write appends at most limit bytes, once there is room for them.
func (t *tape) write(p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.first != nil && t.over(len(p)) > t.first.at {
		t.room.Wait()
	}
	before := len(t.buf)
	if drop := min(t.over(len(p))-t.dropped, len(t.buf)); drop > 0 { // their room is given back when buf grows
		t.buf, t.dropped = t.buf[drop:], t.dropped+drop
	}
	t.buf = append(t.buf, p...)
	t.hold(len(t.buf) - before)
	t.more.Broadcast()
}

// over is how many bytes have to go, from the beginning, before n more fit; below 0 for
// none. mu is held.
func (t *tape) over(n int) int { return t.dropped + len(t.buf) + n - t.limit }

// kept is the whole response; false if it was too long.
func (t *tape) kept() ([]byte, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.buf, t.dropped == 0
}

// written is how many bytes were.
func (t *tape) written() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.dropped + len(t.buf)
}

// isDeserted says that there have been no readers for too long.
func (t *tape) isDeserted() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.given
}

// desert ends a recording that nobody reads, unless somebody came just now.
func (t *tape) desert() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.readers == 0 && !t.ended {
		t.given = true
		t.deserted()
	}
}

// end tells the readers that there is no more: all of it is there, or it broke off. It
// returns how many there were besides the first.
func (t *tape) end(err error) (joined int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended, t.err = true, err
	t.more.Broadcast()
	t.stopTimer()
	t.forget()
	return t.joined
}

// isOver says whether the response was read to its end, or broke off; the attempt has ended
// before.
func (t *tape) isOver() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ended
}

// forget has the bytes not counted any more once nobody needs them. mu is held.
func (t *tape) forget() {
	if t.ended && t.readers == 0 && t.buf != nil {
		t.hold(-len(t.buf))
		t.buf = nil
	}
}

// whenIdle has play begin, in a goroutine of its own, when a reader has all that there is, or
// has left, and when w looks at the client at the latest, or after as long a time if there is
// no w. It is due before anybody reads.
func (t *tape) whenIdle(play func(), w *watch) {
	t.mu.Lock()
	t.play = play
	if w == nil {
		t.latest = time.AfterFunc(lookAtClient, t.playOn)
	}
	t.mu.Unlock()
	if w != nil { // a timer more would cost more than all the rest of this
		w.whenLooked(t.playOn) // without mu, which who looks may want
	}
}

// playOn has play begin whatever its client does.
func (t *tape) playOn() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.begin()
}

// begin has play begin that has not. mu is held.
func (t *tape) begin() {
	if t.play == nil {
		return
	}
	if t.latest != nil {
		t.latest.Stop()
	}
	go t.play()
	t.play = nil
}

func (t *tape) stopTimer() {
	if t.alone != nil {
		t.alone.Stop()
		t.alone = nil
	}
}

// read is a client's place on a tape; nil if it cannot have one any more. isFirst: the
// response is executed for it.
func (t *tape) read(isFirst bool, after []byte) *tapeReader {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dropped > 0 || t.given || t.ended && (t.err != nil || t.buf == nil) {
		return nil
	}
	r := &tapeReader{tape: t, length: t.length, isFirst: isFirst}
	if len(after) > 0 && isEventStream(t.header) {
		if r.at = afterEvent(t.buf, after); r.at > 0 {
			r.length = -1
		}
	}
	if isFirst {
		t.first = r
	} else {
		t.joined++
	}
	t.readers++
	t.stopTimer()
	return r
}

// leave is one reader less. mu is held.
func (t *tape) leave(r *tapeReader) {
	if t.first == r {
		t.first = nil
		t.room.Signal()
	}
	t.readers--
	t.begin()
	t.forget()
	if t.readers == 0 && !t.ended {
		t.alone = time.AfterFunc(t.readOn, t.desert)
	}
}

// visible is where what a reader may have ends. mu is held.
func (t *tape) visible() int {
	end := t.dropped + len(t.buf)
	if !t.ended && t.length >= 0 && end >= t.length {
		return t.length - 1
	}
	return end
}

// tapeReader is the body of one client's response.
type tapeReader struct {
	tape *tape
	// length is that of what it reads. -1 if it begins behind an event: then the end is a last
	// chunk, and comes after the store has the response even if there are no more bytes.
	length int

	isFirst bool // see tape.first
	at      int  // guarded by tape.mu
	gone    bool // guarded by tape.mu
	once    sync.Once
}

// next waits for bytes behind those that the reader has, and gives up to most of them. They
// never change.
func (r *tapeReader) next(most int) ([]byte, error) {
	t := r.tape
	t.mu.Lock()
	defer t.mu.Unlock()
	for {
		switch end := t.visible(); {
		case r.gone:
			return nil, errReaderGone
		case r.at < t.dropped:
			return nil, errFellBehind
		case r.at < end:
			piece := t.buf[r.at-t.dropped : end-t.dropped]
			piece = piece[:min(len(piece), most)]
			r.at += len(piece)
			if t.first == r {
				t.room.Signal()
			}
			return piece, nil
		case t.ended && t.err != nil:
			return nil, t.err
		case t.ended:
			return nil, io.EOF
		}
		t.begin()
		t.more.Wait()
	}
}

// Read implements io.Reader.
func (r *tapeReader) Read(p []byte) (int, error) {
	piece, err := r.next(len(p))
	return copy(p, piece), err
}

// mostAtOnce is how much a client is sent at a time at most.
const mostAtOnce = 64 << 10

// WriteTo implements io.WriterTo: it needs no buffer of its own.
func (r *tapeReader) WriteTo(w io.Writer) (written int64, err error) {
	for {
		piece, err := r.next(mostAtOnce)
		if errors.Is(err, io.EOF) {
			return written, nil
		}
		if err != nil {
			return written, err
		}
		n, err := w.Write(piece)
		written += int64(n)
		if err != nil {
			return written, err //nolint:wrapcheck // it stands in for the body
		}
	}
}

// abandon has the client count as one that has left.
func (r *tapeReader) abandon() {
	r.tape.mu.Lock()
	defer r.tape.mu.Unlock()
	r.gone = true
	r.tape.more.Broadcast()
}

// Close implements io.Closer. It may be repeated.
func (r *tapeReader) Close() error {
	r.once.Do(func() {
		r.tape.mu.Lock()
		r.tape.leave(r)
		r.tape.mu.Unlock()
	})
	return nil
}

// tapes are those that are recorded now, by the ids of their keys.
type tapes struct {
	mu      sync.Mutex
	playing map[[16]byte]*tape                 // guarded by mu
	waiting map[[16]byte]map[*func()]tapeAsked // guarded by mu
}

// enter has joiners find a tape.
func (t *tapes) enter(id [16]byte, one *tape) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.playing == nil {
		t.playing = map[[16]byte]*tape{}
	}
	t.playing[id] = one
	for wake, asked := range t.waiting[id] {
		if asked == one.asked {
			(*wake)()
		}
	}
}

// leave has no more joiners find it.
func (t *tapes) leave(id [16]byte, one *tape) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.playing[id] == one {
		delete(t.playing, id)
	}
}

// find is the tape of a key, if it is what the request asked for; nil for none.
func (t *tapes) find(id [16]byte, asked tapeAsked) *tape {
	t.mu.Lock()
	defer t.mu.Unlock()
	one := t.playing[id]
	if one == nil || one.asked != asked {
		return nil
	}
	return one
}

// await has wake called when there is such a tape, until it is stopped.
func (t *tapes) await(id [16]byte, asked tapeAsked, wake func()) (stop func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if one := t.playing[id]; one != nil && one.asked == asked {
		wake()
		return func() {}
	}
	if t.waiting == nil {
		t.waiting = map[[16]byte]map[*func()]tapeAsked{}
	}
	if t.waiting[id] == nil {
		t.waiting[id] = map[*func()]tapeAsked{}
	}
	t.waiting[id][&wake] = asked
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.waiting[id], &wake)
		if len(t.waiting[id]) == 0 {
			delete(t.waiting, id)
		}
	}
}
