package message

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/valyala/fasthttp"
)

// Errors of ReadResponse.
var (
	// ErrHeaderTooLarge: the header is a response's, and larger than may be.
	ErrHeaderTooLarge = errors.New("the response's header is too large")
	errStatusLine     = errors.New("the response's status line is malformed")
	errReason         = errors.New("the response's reason phrase has a control character")
	errResponseField  = errors.New("a field of the response has a malformed name")
	errResponseValue  = errors.New("a field of the response has a CR or NUL in its value")
)

// ReadResponse reads the header of a response, of most bytes at most, and says how
// many it had. Of one that is larger, h has the status (ErrHeaderTooLarge). What two
// parsers could read as two different responses is an error, at once. Two forms are
// mended, as recipients may (RFC 9112 sections 2.2 and 5.2): lines that end in LF
// alone, and folded ones. What may not be a trailer is taken out of its announcement.
// fasthttp by itself would wait for ever on the first. Content codings on several lines
// become one list.
func ReadResponse(br *bufio.Reader, h *fasthttp.ResponseHeader, most int) (size int, err error) {
	var s headScan
	for want := 1; ; want = br.Buffered() + 1 {
		if want > br.Size() {
			return readLong(br, h, &s, most)
		}
		if _, err = br.Peek(want); err != nil {
			return 0, fmt.Errorf("the response's header: %w", noEOF(err))
		}
		b, _ := br.Peek(br.Buffered())
		if err = s.scan(b); err != nil {
			return 0, err
		}
		switch {
		case s.pos > most:
			h.SetStatusCode(s.status)
			return 0, ErrHeaderTooLarge
		case s.ended && !s.mend:
			if err = h.Read(br); err != nil {
				return 0, fmt.Errorf("the response's header: %w", Unquoted(err))
			}
			return s.pos, nil
		case s.ended:
			if err = readMended(h, b[:s.pos]); err != nil {
				return 0, err
			}
			_, _ = br.Discard(s.pos) // which is buffered
			return s.pos, nil
		}
	}
}

// readLong goes on with a header that the reader has no room for.
func readLong(br *bufio.Reader, h *fasthttp.ResponseHeader, s *headScan, most int) (int, error) {
	var text []byte
	for !s.ended {
		if len(text) > most {
			h.SetStatusCode(s.status)
			return 0, ErrHeaderTooLarge
		}
		if _, err := br.Peek(1); err != nil {
			return 0, fmt.Errorf("the response's header: %w", noEOF(err))
		}
		b, _ := br.Peek(br.Buffered())
		before := len(text)
		text = append(text, b...)
		if err := s.scan(text); err != nil {
			return 0, err
		}
		n := len(b)
		if s.ended {
			n = s.pos - before
			text = text[:s.pos]
		}
		if _, err := br.Discard(n); err != nil {
			return 0, fmt.Errorf("the response's header: %w", err)
		}
	}
	if s.pos > most {
		h.SetStatusCode(s.status)
		return 0, ErrHeaderTooLarge
	}
	return s.pos, readMended(h, text)
}

// readMended parses a header with its lines' ends in the one form that there is.
func readMended(h *fasthttp.ResponseHeader, text []byte) error {
	p := parsers.Get().(*headerParser) //nolint:forcetypeassert // see New
	defer parsers.Put(p)
	p.text = p.text[:0]
	for line := range bytes.Lines(text) {
		line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
		switch {
		case len(line) == 0:
			p.text = joinCodings(p.text)
			return p.read(h)
		case isFold(line):
			p.text = append(bytes.TrimSuffix(p.text, []byte("\r\n")), ' ')
			line = bytes.TrimLeft(line, " \t")
		case len(line) > len("Trailer:") && EqualFold(line[:len("Trailer:")], "Trailer:"): // a fold behind it is refused
			allowed, _ := allowedTrailers(line[len("Trailer:"):])
			line = append([]byte("Trailer: "), allowed...)
		}
		p.text = append(append(p.text, line...), "\r\n"...)
	}
	return p.read(h)
}

// joinCodings makes one line of several that have content codings: they are one list (RFC
// 9110 section 5.3), of which fasthttp keeps the last line only.
func joinCodings(text []byte) []byte {
	var rest, codings []byte
	n := 0
	for line := range bytes.Lines(text) {
		name, value, _ := bytes.Cut(line, []byte{':'})
		if !EqualFold(name, "Content-Encoding") {
			rest = append(rest, line...)
			continue
		}
		n++
		if value = bytes.TrimSpace(value); len(value) > 0 {
			if len(codings) > 0 {
				codings = append(codings, ", "...)
			}
			codings = append(codings, value...)
		}
	}
	if n < 2 {
		return text
	}
	return append(append(append(rest, "Content-Encoding: "...), codings...), "\r\n"...)
}

func isFold(line []byte) bool { return line[0] == ' ' || line[0] == '\t' }

// headScan looks at a header as it arrives, each line once.
type headScan struct {
	pos   int // the next line starts there, or the body
	lines int
	// status is the first line's.
	status int
	ended  bool
	mend   bool // it has a line of another form, or one that belongs to another
	coded  bool // it has a line Content-Encoding
}

func (s *headScan) scan(b []byte) error {
	for !s.ended {
		n := bytes.IndexByte(b[s.pos:], '\n')
		if n < 0 {
			return nil
		}
		line := b[s.pos : s.pos+n]
		s.pos += n + 1
		if trimmed, ok := bytes.CutSuffix(line, []byte{'\r'}); ok {
			line = trimmed
		} else {
			s.mend = true
		}
		if err := s.line(line); err != nil {
			return err
		}
		s.lines++
	}
	return nil
}

func (s *headScan) line(line []byte) error {
	switch {
	case s.lines == 0:
		if err := statusLine(line); err != nil {
			return err
		}
		s.status = int(line[9]-'0')*100 + int(line[10]-'0')*10 + int(line[11]-'0')
		return nil
	case len(line) == 0:
		s.ended = true
		return nil
	case isFold(line):
		s.mend = true
		if s.lines == 1 {
			return errResponseField
		}
		return fieldValue(line)
	}
	colon := bytes.IndexByte(line, ':')
	if colon < 1 || !isToken(line[:colon]) {
		return errResponseField
	}
	if EqualFold(line[:colon], "Trailer") {
		_, ok := allowedTrailers(line[colon+1:])
		s.mend = s.mend || !ok
	}
	if EqualFold(line[:colon], "Content-Encoding") {
		s.mend, s.coded = s.mend || s.coded, true
	}
	return fieldValue(line[colon:])
}

// statusLine is RFC 9112 section 4, of HTTP/1.
func statusLine(line []byte) error {
	const least = len("HTTP/1.1 200")
	if len(line) < least || string(line[:7]) != "HTTP/1." || !isDigit(line[7]) || line[8] != ' ' ||
		line[9] < '1' || line[9] > '9' || !isDigit(line[10]) || !isDigit(line[11]) || len(line) > least && line[least] != ' ' {
		return errStatusLine
	}
	for _, c := range line[least:] {
		if c < ' ' && c != '\t' || c == 0x7f {
			return errReason
		}
	}
	return nil
}

func fieldValue(b []byte) error {
	if bytes.IndexByte(b, '\r') >= 0 || bytes.IndexByte(b, 0) >= 0 {
		return errResponseValue
	}
	return nil
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

//nolint:gochecknoglobals // a constant, of a kind that Go has no word for
var tokenChars = func() (is [256]bool) {
	for c := range 256 {
		is[c] = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
	}
	for _, c := range []byte("!#$%&'*+-.^_`|~") {
		is[c] = true
	}
	return is
}()

// isToken is RFC 9110 section 5.6.2.
func isToken(b []byte) bool {
	for _, c := range b {
		if !tokenChars[c] {
			return false
		}
	}
	return len(b) > 0
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
