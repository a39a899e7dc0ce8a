package proxy

import (
	"crypto/sha256"
	"hash"
	"sync"

	"github.com/idemproxy/idemproxy/idem"
)

//nolint:gochecknoglobals // a pool is made to be shared
var hashers = sync.Pool{New: func() any { return sha256.New() }}

// fingerprint is the SHA-256 of method, target and body. A method holds no
// space and a target no line feed (RFC 9112 section 3), so no two requests are
// written to the hash alike.
func fingerprint(method, target, body []byte) (f idem.Fingerprint) {
	h := hashers.Get().(hash.Hash) //nolint:forcetypeassert // see New
	h.Reset()
	_, _ = h.Write(method)
	_, _ = h.Write([]byte{' '})
	_, _ = h.Write(target)
	_, _ = h.Write([]byte{'\n'})
	_, _ = h.Write(body)
	h.Sum(f[:0])
	hashers.Put(h)
	return f
}
