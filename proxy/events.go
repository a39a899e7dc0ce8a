package proxy

import (
	"bytes"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/message"
)

// headerLastEventID is how a client of server-sent events says what it has
// (https://html.spec.whatwg.org/multipage/server-sent-events.html).
const headerLastEventID = "Last-Event-ID"

// isEventStream says of a response that its body is server-sent events, as they are.
func isEventStream(header []idem.Field) bool {
	is := false
	for _, f := range header {
		switch {
		case message.EqualFold(f.Name, "Content-Type"):
			kind, _, _ := bytes.Cut(f.Value, []byte{';'})
			is = message.EqualFold(bytes.TrimSpace(kind), "text/event-stream")
		case message.EqualFold(f.Name, "Content-Encoding"):
			return false // the events cannot be told apart
		}
	}
	return is
}

// afterEvent is where what comes after the event with an id begins; 0 if there is none, so
// that nothing is left out. Of several with that id the first counts: a client may get an
// event twice, which it can tell by the id, and never misses one.
func afterEvent(stream, id []byte) int {
	found := false
	for at := 0; at < len(stream); {
		line, next, whole := cutEventLine(stream, at)
		if !whole {
			break
		}
		if at == 0 {
			line = bytes.TrimPrefix(line, []byte("\xef\xbb\xbf"))
		}
		if len(line) == 0 && found {
			return next
		}
		if value, ok := bytes.CutPrefix(line, []byte("id")); ok && (len(value) == 0 || value[0] == ':') {
			value = bytes.TrimPrefix(bytes.TrimPrefix(value, []byte{':'}), []byte{' '})
			found = bytes.Equal(value, id)
		}
		at = next
	}
	return 0
}

// cutEventLine is the line that begins at a place, without its end (CRLF, LF or CR), where
// the next one begins, and whether its end is there.
func cutEventLine(stream []byte, at int) (line []byte, next int, whole bool) {
	rest := stream[at:]
	i := bytes.IndexAny(rest, "\r\n")
	if i < 0 {
		return rest, len(stream), false
	}
	next = at + i + 1
	if rest[i] == '\r' && i+1 < len(rest) && rest[i+1] == '\n' {
		next++
	}
	return rest[:i], next, true
}
