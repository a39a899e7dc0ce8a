package proxy

import (
	"crypto/sha256"
	"hash"
	"sync"

	"github.com/idemproxy/idemproxy/idem"
)

//nolint:gochecknoglobals // a pool is made to be shared
var hashers = sync.Pool{New: func() any { return &hasher{Hash: sha256.New()} }}

// hasher keeps the sum beside the state, where both are reused.
type hasher struct {
	hash.Hash
	sum idem.Fingerprint
}

// fingerprint is the SHA-256 of method, target and body. A method holds no
// space and a target no line feed (RFC 9112 section 3), so no two requests are
// written to the hash alike.
func fingerprint(method, target, body []byte) idem.Fingerprint {
	h := hashers.Get().(*hasher) //nolint:forcetypeassert // see New
	defer hashers.Put(h)
	h.Reset()
	_, _ = h.Write(method)
	_, _ = h.Write(space)
	_, _ = h.Write(target)
	_, _ = h.Write(newline)
	_, _ = h.Write(body)
	h.Sum(h.sum[:0])
	return h.sum
}

//nolint:gochecknoglobals // constants, of a kind that Go has no word for
var space, newline = []byte{' '}, []byte{'\n'}
