package message

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/valyala/fasthttp"
)

// Chunks reads the body of a chunked response (RFC 9112 section 7.1), of which the
// header has been read from the same reader. A body that is cut short is an error,
// never io.EOF. Make it with NewChunks.
type Chunks struct {
	br       *bufio.Reader
	left     int  // of a chunk
	begun    bool // a chunk's end is to be read
	trailers []byte
	err      error
}

// NewChunks reads from br, from a chunk's beginning.
func NewChunks(br *bufio.Reader) Chunks { return Chunks{br: br} }

// Read implements io.Reader.
func (c *Chunks) Read(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, c.err
	}
	if c.left == 0 && c.err == nil {
		c.err = c.next()
	}
	if c.err != nil {
		return 0, c.err
	}
	n, err = c.br.Read(p[:min(len(p), c.left)])
	c.left -= n
	if err != nil {
		c.err = noEOF(err)
		return n, fmt.Errorf("the response's body: %w", c.err)
	}
	return n, nil
}

// Ready says whether a Read would not wait: there are bytes, or the body ends.
func (c *Chunks) Ready() bool {
	if c.err != nil {
		return true
	}
	there, _ := c.br.Peek(c.br.Buffered()) // which waits for nothing
	if c.left > 0 {
		return len(there) > 0
	}
	if c.begun {
		_, there, _ = bytes.Cut(there, []byte{'\n'})
	}
	line, rest, whole := bytes.Cut(there, []byte{'\n'})
	if !whole {
		return false
	}
	size, _, _ := bytes.Cut(bytes.TrimRight(line, "\r"), []byte{';'})
	switch n, ok := hexSize(bytes.TrimRight(size, " \t")); {
	case !ok: // which Read says at once
		return true
	case n > 0:
		return len(rest) > 0
	}
	return bytes.HasPrefix(rest, []byte("\r\n")) || bytes.Contains(rest, []byte("\n\r\n")) // behind the trailers
}

// next reads up to a chunk's data, or to the end of the body. A chunk's end is read
// together with the next one's beginning, so that nobody waits for it.
func (c *Chunks) next() error {
	if c.begun {
		if line, err := c.line(); err != nil || len(line) > 0 {
			return errors.Join(errEndOfData, err)
		}
	}
	c.begun = true
	line, err := c.line()
	if err != nil {
		return err
	}
	size, _, _ := bytes.Cut(line, []byte{';'})
	n, ok := hexSize(bytes.TrimRight(size, " \t")) // some servers fill it up with spaces
	switch {
	case !ok:
		return errChunk
	case n > 0:
		c.left = n
		return nil
	}
	return c.end()
}

// end reads the trailers.
func (c *Chunks) end() error {
	for {
		line, err := c.line()
		switch {
		case err != nil:
			return err
		case len(line) == 0:
			return io.EOF
		case isFold(line) && len(c.trailers) > 0:
			c.trailers = append(bytes.TrimSuffix(c.trailers, []byte{'\n'}), ' ')
			line = bytes.TrimLeft(line, " \t")
		case !isToken(line[:max(bytes.IndexByte(line, ':'), 0)]):
			return errTrailer
		}
		if len(c.trailers)+len(line) > longestFrame {
			return errLongLine
		}
		if err := fieldValue(line); err != nil {
			return err
		}
		c.trailers = append(append(c.trailers, line...), '\n')
	}
}

// line is the next line, without its end.
func (c *Chunks) line() ([]byte, error) {
	line, err := c.br.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, errLongLine
	case err != nil:
		return nil, fmt.Errorf("the response's body: %w", noEOF(err))
	}
	line, ok := bytes.CutSuffix(line, []byte("\r\n"))
	if !ok {
		return nil, errBareLF
	}
	return line, nil
}

// CopyTrailers copies those that to announces, once the body has ended. It does
// nothing for a nil to.
func (c *Chunks) CopyTrailers(to *fasthttp.ResponseHeader) {
	if to == nil {
		return
	}
	announced := to.PeekTrailerKeys()
	for line := range bytes.SplitSeq(c.trailers, []byte{'\n'}) {
		name, value, _ := bytes.Cut(line, []byte{':'})
		for _, one := range announced {
			if EqualFold(name, string(one)) {
				to.SetBytesKV(one, bytes.Trim(value, " \t"))
			}
		}
	}
}

// allowedTrailers are those of a Trailer field that may be trailers; ok says that all
// of them may.
func allowedTrailers(value []byte) (allowed []byte, ok bool) {
	var h fasthttp.ResponseHeader
	h.DisableNormalizing()
	err := h.SetTrailerBytes(value)
	return bytes.Join(h.PeekTrailerKeys(), []byte(", ")), err == nil
}
