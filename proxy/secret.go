package proxy

import (
	"crypto/hmac"
	"crypto/sha256"
	"hash"
	"sync"

	"github.com/idemproxy/idemproxy/idem"
)

// secret makes digests that say nothing to who does not have it. The nil secret
// leaves them as they are.
type secret struct {
	macs sync.Pool
}

func newSecret(key []byte) *secret {
	if len(key) == 0 {
		return nil
	}
	return &secret{macs: sync.Pool{New: func() any { return hmac.New(sha256.New, key) }}}
}

func (s *secret) fingerprint(f idem.Fingerprint) idem.Fingerprint {
	if s == nil {
		return f
	}
	return s.of("fingerprint", f)
}

// binding leaves the zero binding, which is nobody's.
func (s *secret) binding(b idem.Binding) idem.Binding {
	if s == nil || b == (idem.Binding{}) {
		return b
	}
	return s.of("binding", b)
}

func (s *secret) of(what string, digest [sha256.Size]byte) (sum [sha256.Size]byte) {
	mac := s.macs.Get().(hash.Hash) //nolint:forcetypeassert // see newSecret
	defer s.macs.Put(mac)
	mac.Reset()
	_, _ = mac.Write([]byte(what))
	_, _ = mac.Write(digest[:])
	mac.Sum(sum[:0])
	return sum
}
