package caller

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"slices"
)

// Legacy hashes the bind headers as they are spelled in the settings, and then the
// certificate: how the release before recipes did. This file can go when the longest
// retention has passed since the last such record.
func (c *Caller) Legacy(bind []string) Digest {
	var b []byte
	var sum Digest
	bound := false
	for _, want := range bind {
		for value := range c.head.Named(want) {
			b, bound = appendSized(appendSized(b, []byte(want)), value), true
		}
	}
	if bound {
		sum = sha256.Sum256(b)
	}
	if c.certificate != nil {
		sum = legacyCertificate(sum, c.certificate)
	}
	return sum
}

func legacyCertificate(headers Digest, c *x509.Certificate) Digest {
	sum := sha256.New()
	part := func(b []byte) {
		_, _ = sum.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b)))) //nolint:gosec // bounded by the handshake's size
		_, _ = sum.Write(b)
	}
	part(headers[:])
	part(c.RawIssuer)
	part(c.RawSubject)
	for _, name := range slices.Concat(c.DNSNames, c.EmailAddresses) {
		part([]byte(name))
	}
	for _, uri := range c.URIs {
		part([]byte(uri.String()))
	}
	return Digest(sum.Sum(nil))
}
