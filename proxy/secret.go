package proxy

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"sync"

	"github.com/idemproxy/idemproxy/idem"
)

// secret makes digests that say nothing to who does not have it. The nil secret
// leaves them as they are.
type secret struct {
	id   string // which one it is, in recipes; tells nothing of it
	macs sync.Pool
}

func newSecret(key []byte) *secret {
	if len(key) == 0 {
		return nil
	}
	s := &secret{macs: sync.Pool{New: func() any { return hmac.New(sha256.New, key) }}}
	sum := s.of("recipe", digest{})
	s.id = hex.EncodeToString(sum[:4])
	return s
}

// newSecrets are the secrets that hashes can be made by, by their ids.
func newSecrets(all [][]byte) map[string]*secret {
	byID := map[string]*secret{"": nil}
	for _, key := range all {
		if s := newSecret(key); s != nil {
			byID[s.id] = s
		}
	}
	return byID
}

func (s *secret) fingerprint(d digest) idem.Fingerprint {
	if s != nil {
		d = s.of("fingerprint", d)
	}
	return idem.Fingerprint(d[:len(idem.Fingerprint{})])
}

// binding leaves the zero binding, which is nobody's.
func (s *secret) binding(d digest) idem.Binding {
	if s != nil && d != (digest{}) {
		d = s.of("binding", d)
	}
	return idem.Binding(d[:len(idem.Binding{})])
}

func (s *secret) of(what string, d digest) (sum digest) {
	mac := s.macs.Get().(hash.Hash) //nolint:forcetypeassert // see newSecret
	defer s.macs.Put(mac)
	mac.Reset()
	_, _ = mac.Write([]byte(what))
	_, _ = mac.Write(d[:])
	mac.Sum(sum[:0])
	return sum
}
