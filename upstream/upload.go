package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/message"
)

// Upload is the client's body on its way, which remembers that the client, and
// not the backend, broke it off. Its first error is its last word: fasthttp
// looks over an error that comes along with bytes, and would go on behind it.
type Upload struct {
	io.Reader
	// Err is what broke it off.
	Err      error
	from, to *fasthttp.RequestHeader // of the trailers, if there are any
}

// Read implements io.Reader.
func (u *Upload) Read(p []byte) (int, error) {
	if u.Err != nil {
		return 0, u.Err
	}
	n, err := u.Reader.Read(p)
	switch {
	case errors.Is(err, io.EOF):
		message.CopyTrailers(u.to, u.from)
	case err != nil:
		err = fmt.Errorf("%w: %w", ErrClientBody, err)
		u.Err = err
	}
	return n, err
}

// Announce has the trailers passed on that the client announced (RFC 9110
// section 6.6.2). Others are dropped, as section 6.5.1 allows.
func (u *Upload) Announce(from, to *fasthttp.RequestHeader) {
	if names := from.PeekTrailerKeys(); len(names) > 0 {
		u.from, u.to = from, to
		_ = to.SetTrailerBytes(bytes.Join(names, []byte(", "))) // a name that no trailer may have stays out
	}
}
