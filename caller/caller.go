package caller

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/message"
)

// Digest is a whole SHA-256. Records keep the first half of one.
type Digest = [sha256.Size]byte

// Caller is who asks: where the request came from, and what it shows of who sent
// it. It ends with the request, and is not safe for concurrent use.
type Caller struct {
	ctx      *fasthttp.RequestCtx
	head     *message.Head
	trusted  Prefixes
	believed bool

	certificate *x509.Certificate // nil for none
	digest      Digest            // zero: not known
	scope       []byte            // room
}

// Read takes in where the request came from.
func (c *Caller) Read(ctx *fasthttp.RequestCtx, head *message.Head, trusted Prefixes) {
	c.ctx, c.head, c.trusted = ctx, head, trusted
	c.believed = trusted.Trusts(ctx.RemoteAddr())
}

// Reset leaves nothing of the request but room.
func (c *Caller) Reset() { *c = Caller{scope: c.scope} }

// Identify settles who the caller is: once, before anything asks. bind names the
// fields that say it, sorted, in lower case.
func (c *Caller) Identify(bind []string) {
	if state := c.ctx.TLSConnectionState(); state != nil && len(state.PeerCertificates) > 0 {
		c.certificate = state.PeerCertificates[0]
	}
	c.digest = c.By(bind)
}

// Known says whether anything tells who asks.
func (c *Caller) Known() bool { return c.digest != Digest{} }

// Digest is the caller's; zero if nothing tells who asks.
func (c *Caller) Digest() Digest { return c.digest }

// Certificate is a digest of whom the client's certificate names, if there is one.
func (c *Caller) Certificate() (d Digest, ok bool) {
	if c.certificate == nil {
		return d, false
	}
	return sha256.Sum256(appendCertificate(nil, c.certificate)), true
}

// By hashes who asks: the values of the fields that bind names, and the
// certificate. bind is sorted, in lower case. Names and lengths are hashed too, so
// that no two callers are written alike. A field without a value says nothing.
// Zero: nobody says who asks.
func (c *Caller) By(bind []string) Digest {
	var buf [1024]byte
	b := buf[:0]
	for _, want := range bind {
		for value := range c.head.Named(want) {
			if len(value) > 0 {
				b = appendSized(appendSized(append(b, pieceHeader), []byte(want)), value)
			}
		}
	}
	if c.certificate != nil {
		b = appendCertificate(b, c.certificate)
	}
	if len(b) == 0 {
		return Digest{}
	}
	return sha256.Sum256(b)
}

// What a piece of a caller's digest begins with.
const (
	pieceHeader      = 1
	pieceCertificate = 2
)

// appendCertificate appends whom a certificate names, all alternative names
// included (DNS, IP, e-mail, URI, UPN and what else there is: the extension as it
// stands), and who says so; but not its serial number or key, which change when
// it is renewed.
func appendCertificate(b []byte, c *x509.Certificate) []byte {
	b = appendSized(appendSized(append(b, pieceCertificate), c.RawIssuer), c.RawSubject)
	for _, extension := range c.Extensions {
		if extension.Id.Equal(subjectAltName()) {
			b = appendSized(b, extension.Value)
		}
	}
	return b
}

// subjectAltName is RFC 5280 section 4.2.1.6.
func subjectAltName() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{2, 5, 29, 17} }

func appendSized(dst, b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(b))), b...) //nolint:gosec // bounded by the request's limits
}
