package message

import (
	"bytes"
	"errors"
	"math"
)

// Errors of Stream, besides those of Sound.
var (
	errChunk     = errors.New("a chunk is malformed")
	errTrailer   = errors.New("a trailer line has a malformed name")
	errLongLine  = errors.New("a line of the body's framing is too long")
	errEndOfData = errors.New("a chunk's data does not end in CRLF")
	errTLS       = errors.New("this port speaks plain HTTP, and what came is TLS: use http://")
	errHTTP2     = errors.New("HTTP/2 is not spoken here: use HTTP/1.1")
)

// Stream follows the requests of a connection as their bytes come, and notices what
// cannot be told any more once the client's library has parsed them: a request line
// that ends in LF alone, and in a chunked body whatever is not of the one form that
// RFC 9112 section 7.1 gives it. The zero value is at a connection's start. What the
// library or Sound refuses by itself, Stream lets through. The one thing that it
// relies on is that a connection on which they refuse anything is closed.
type Stream struct {
	at   place
	left int // of a body, or a chunk
	line []byte
	err  error

	// of the header under way
	length           int // -1: none
	chunked, upgrade bool
	refused          bool // by the library or by Sound, at its end

	begun uint64 // how many requests
	id    []byte // see RequestID
}

// place is what comes next on a connection.
type place uint8

const (
	atStart place = iota // a request line, or an empty one before it
	inHeader
	inBody
	atChunkSize
	inChunk
	atChunkEnd
	inTrailers
	held   // behind a request that may leave HTTP
	beyond // it has left HTTP, or will be refused
)

const (
	// handshake is how a connection of TLS begins (RFC 8446 section 5.1).
	handshake = 0x16
	// prefaceHTTP2 is the first line of a connection of HTTP/2 (RFC 9113 section 3.4).
	prefaceHTTP2 = "PRI * HTTP/2.0"
)

// longestLine bounds what is kept of a line that comes in pieces. Headers have a
// bound of their own, which is at most as large.
const longestLine = 1 << 20

// keptLine is how much room for such a line stays with a connection.
const keptLine = 1 << 10

// longestFrame bounds a line between chunks, with its extensions.
const longestFrame = 16 << 10

// Take says how many of the next bytes are those of requests as they must be: all of
// p, unless there is an error, which stays, or unless what follows is held until it is
// known whether it is HTTP (see Held). Of a line with an error, what comes before its
// end is taken, so that the library has something to refuse.
func (s *Stream) Take(p []byte) (n int, err error) {
	for n < len(p) && s.err == nil {
		switch s.at {
		case beyond:
			return len(p), nil
		case held:
			return n, nil
		case inBody, inChunk:
			k := min(s.left, len(p)-n)
			n += k
			if s.left -= k; s.left == 0 && s.at == inBody {
				s.at = atStart
			} else if s.left == 0 {
				s.at = atChunkEnd
			}
		default:
			if s.begun == 0 && s.at == atStart && len(s.line) == 0 && p[n] == handshake {
				s.err = errTLS
				return n + 1, s.err
			}
			n += s.takeLine(p[n:])
		}
	}
	return n, s.err
}

// takeLine takes the rest of a line, or what there is of it.
func (s *Stream) takeLine(p []byte) int {
	i := bytes.IndexByte(p, '\n')
	if i < 0 {
		s.line = append(s.line, p...)
		if s.tooLong(len(s.line)) {
			s.err = errLongLine
		}
		return len(p)
	}
	line := p[:i]
	if len(s.line) > 0 {
		s.line = append(s.line, line...)
		line = s.line
	}
	if s.line = s.line[:0]; cap(s.line) > keptLine {
		s.line = nil
	}
	if s.err = s.next(line); s.err != nil {
		return i
	}
	return i + 1
}

func (s *Stream) tooLong(n int) bool {
	return n > longestLine || n > longestFrame && s.at > inHeader
}

// next reads a whole line.
func (s *Stream) next(line []byte) error {
	if s.tooLong(len(line)) {
		return errLongLine
	}
	line, ok := bytes.CutSuffix(line, []byte{'\r'})
	switch {
	case !ok:
		return errBareLF
	case s.at == atStart && string(line) == prefaceHTTP2:
		return errHTTP2
	case s.at == atStart && len(line) > 0:
		s.at, s.length, s.chunked, s.upgrade, s.refused = inHeader, -1, false, false, false
		s.begun++
		s.id = s.id[:0]
	case s.at == inHeader && len(line) == 0:
		s.header()
	case s.at == inHeader:
		s.field(line)
	case s.at == atChunkSize:
		return s.chunk(line)
	case s.at == atChunkEnd:
		if len(line) > 0 {
			return errEndOfData
		}
		s.at = atChunkSize
	case s.at == inTrailers && len(line) == 0:
		s.at = atStart
	case s.at == inTrailers:
		if isFold(line) {
			return errFolded
		}
		if !isToken(line[:max(bytes.IndexByte(line, ':'), 0)]) {
			return errTrailer
		}
	}
	return nil
}

// field reads how the body is framed, and the request's id. What it cannot read is
// refused.
func (s *Stream) field(line []byte) {
	switch line[0] | 0x20 {
	case 'c', 't', 'u', 'x':
	default:
		return
	}
	name, value, _ := bytes.Cut(line, []byte{':'})
	switch len(name) {
	case len(HeaderRequestID):
		if EqualFold(name, HeaderRequestID) {
			s.named(bytes.Trim(value, " \t"))
		}
	case len("Upgrade"):
		s.upgrade = s.upgrade || EqualFold(name, "Upgrade")
	case len("Content-Length"):
		if EqualFold(name, "Content-Length") {
			n, ok := decimal(bytes.Trim(value, " \t"))
			s.refused = s.refused || !ok || s.length >= 0
			s.length = n
		}
	case len("Transfer-Encoding"):
		if EqualFold(name, "Transfer-Encoding") {
			s.chunked = true
			s.refused = s.refused || !EqualFold(bytes.Trim(value, " \t"), "chunked")
		}
	}
}

// header is at its end.
func (s *Stream) header() {
	switch {
	case s.refused, s.chunked && s.length >= 0:
		s.at = beyond
	case s.chunked:
		s.at = atChunkSize
	case s.length > 0:
		s.at, s.left = inBody, s.length
	case s.upgrade:
		s.at = held
	default:
		s.at = atStart
	}
}

// chunk reads a chunk's size. Of extensions only the end matters.
func (s *Stream) chunk(line []byte) error {
	size, _, _ := bytes.Cut(line, []byte{';'})
	n, ok := hexSize(size)
	if !ok || bytes.IndexByte(line, '\r') >= 0 {
		return errChunk
	}
	s.at, s.left = inChunk, n
	if n == 0 {
		s.at = inTrailers
	}
	return nil
}

// hexSize is 1*HEXDIG.
func hexSize(b []byte) (n int, ok bool) {
	for _, c := range b {
		d, ok := hexDigit(c)
		if !ok || n > math.MaxInt>>4 {
			return 0, false
		}
		n = n<<4 | int(d)
	}
	return n, len(b) > 0
}

// decimal is 1*DIGIT.
func decimal(b []byte) (n int, ok bool) {
	for _, c := range b {
		if !isDigit(c) || n > (math.MaxInt-int(c-'0'))/10 {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, len(b) > 0
}

// Err is why the connection cannot be read any further, if it cannot.
func (s *Stream) Err() error { return s.err }

// RequestID is the X-Request-Id of the connection's n-th request, from 1, if that is
// the last one that has begun, and if it came and can be repeated; nil otherwise. It
// ends with the next Take.
func (s *Stream) RequestID(n uint64) []byte {
	if n != s.begun || len(s.id) == 0 {
		return nil
	}
	return s.id
}

// longestID bounds the ids that are kept of requests that are refused while they are read.
const longestID = 256

// IsShortID says that an X-Request-Id can be kept of a request that is refused while it is
// read, and be repeated.
func IsShortID(id []byte) bool { return len(id) <= longestID && IsPrintable(id) }

func (s *Stream) named(id []byte) {
	if len(s.id) == 0 && IsShortID(id) {
		s.id = append(s.id, id...)
	}
}

// Held says whether what follows may not be HTTP.
func (s *Stream) Held() bool { return s.at == held }

// Go goes on behind a request that could have left HTTP: as HTTP, or not.
func (s *Stream) Go(http bool) {
	switch {
	case !http:
		s.at = beyond
	case s.at == held:
		s.at = atStart
	}
}
