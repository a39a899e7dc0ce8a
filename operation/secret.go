package operation

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"sync"

	"github.com/idemproxy/idemproxy/idem"
)

// Secret makes digests that say nothing to who does not have it. The nil secret
// leaves them as they are.
type Secret struct {
	id   string // which one it is, in recipes; tells nothing of it
	hint Digest // what hints are made with
	macs sync.Pool
}

// NewSecret is nil for no key.
func NewSecret(key []byte) *Secret {
	if len(key) == 0 {
		return nil
	}
	s := &Secret{macs: sync.Pool{New: func() any { return hmac.New(sha256.New, key) }}}
	sum := s.of("recipe", Digest{})
	s.id = hex.EncodeToString(sum[:4])
	s.hint = s.of("hints", Digest{})
	return s
}

// NewSecrets are the secrets that hashes can be made by, by their ids.
func NewSecrets(all [][]byte) map[string]*Secret {
	byID := map[string]*Secret{"": nil}
	for _, key := range all {
		if s := NewSecret(key); s != nil {
			byID[s.id] = s
		}
	}
	return byID
}

func (s *Secret) fingerprint(d Digest) idem.Fingerprint {
	if s != nil {
		d = s.of("fingerprint", d)
	}
	return idem.Fingerprint(d[:len(idem.Fingerprint{})])
}

// binding leaves the zero binding, which is nobody's.
func (s *Secret) binding(d Digest) idem.Binding {
	if s != nil && d != (Digest{}) {
		d = s.of("binding", d)
	}
	return idem.Binding(d[:len(idem.Binding{})])
}

// hints are one byte for each part. A byte without a secret tells as little as the
// fingerprint, which is made without one, too.
func (s *Secret) hints(sums partSums) (h idem.Hints) {
	for i, sum := range sums {
		if s == nil {
			h[i] = byte(sum * 0x9e3779b1 >> 24) // Fibonacci hashing: a CRC's low bits are those of the last byte
			continue
		}
		var block [len(s.hint) + 5]byte
		copy(block[:], s.hint[:])
		block[len(s.hint)] = byte(i)
		binary.BigEndian.PutUint32(block[len(s.hint)+1:], sum)
		digest := sha256.Sum256(block[:])
		h[i] = digest[0]
	}
	return h
}

func (s *Secret) of(what string, d Digest) (sum Digest) {
	mac := s.macs.Get().(hash.Hash) //nolint:forcetypeassert // see NewSecret
	defer s.macs.Put(mac)
	mac.Reset()
	_, _ = mac.Write([]byte(what))
	_, _ = mac.Write(d[:])
	mac.Sum(sum[:0])
	return sum
}

// ID names the secret in recipes and plans; it tells nothing of it. Empty for nil.
func (s *Secret) ID() string {
	if s == nil {
		return ""
	}
	return s.id
}
