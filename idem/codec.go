package idem

import (
	"errors"
	"fmt"
)

// Codec turns responses into what is kept at rest and back: compressed,
// encrypted. It is safe for concurrent use.
type Codec interface {
	// Seal returns what is to be stored in place of r: r itself, or another
	// response that is Sealed. It does not change r, and may share its bytes.
	Seal(k Key, r *Response) (*Response, error)
	// Open returns what Seal was given. It is called with what is Sealed only.
	Open(k Key, r *Response) (*Response, error)
}

// ErrSealed is a sealed response where no codec is configured. Fail closed.
var ErrSealed = errors.New("the response is compressed or encrypted, and this process has no codec for it")

// ErrUnopened is a stored response that its codec cannot open; [ErrSealed] is one. The operation
// was executed.
var ErrUnopened = errors.New("the stored response cannot be opened")

// SealResponse applies a codec, if there is one.
func SealResponse(c Codec, k Key, r *Response) (*Response, error) {
	if c == nil || r == nil {
		return r, nil
	}
	return c.Seal(k, r)
}

// OpenResponse undoes SealResponse. Its error is [ErrUnopened], and why.
func OpenResponse(c Codec, k Key, r *Response) (*Response, error) {
	switch {
	case r == nil || !r.Sealed:
		return r, nil
	case c == nil:
		return nil, fmt.Errorf("%w: %w", ErrUnopened, ErrSealed)
	}
	opened, err := c.Open(k, r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnopened, err)
	}
	return opened, nil
}
