package proxy

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"
)

// digest is a whole SHA-256. Records keep the first half of one.
type digest [sha256.Size]byte

// errCallerUnknown: see Rules.RequireBind.
var errCallerUnknown = errors.New("nothing in the request says who asks")

// whoAsks settles who the caller is: once, before anything asks. Only routes that
// will ask pay for it.
func (id *identity) whoAsks(ctx *fasthttp.RequestCtx, bound bool) {
	if !id.keyed && id.rules.DeriveKey == 0 && id.rules.MaxPerCaller == 0 && id.rules.MaxPerAddress == 0 {
		return
	}
	id.asked.certificate = certificateOf(ctx)
	if bound || id.asked.certificate != nil {
		id.caller = id.asked.caller(id.rules.recipe.bind)
	}
}

// known says whether anything tells who asks.
func (id *identity) known() bool { return id.caller != digest{} }

// certificateOf is the client's certificate, nil for none.
func certificateOf(ctx *fasthttp.RequestCtx) *x509.Certificate {
	state := ctx.TLSConnectionState()
	if state == nil || len(state.PeerCertificates) == 0 {
		return nil
	}
	return state.PeerCertificates[0]
}

// What a piece of a caller's digest begins with.
const (
	pieceHeader      = 1
	pieceCertificate = 2
)

// caller hashes who asks: the values of the fields that bind names, and the
// certificate. bind is sorted, in lower case. Names and lengths are hashed too,
// so that no two callers are written alike. A field without a value says nothing.
// Zero: nobody says who asks.
func (q *asked) caller(bind []string) digest {
	var buf [1024]byte
	b := buf[:0]
	for _, want := range bind {
		for name, value := range q.header.AllInOrder() {
			if len(value) > 0 && equalFold(name, want) {
				b = appendSized(appendSized(append(b, pieceHeader), []byte(want)), value)
			}
		}
	}
	if q.certificate != nil {
		b = appendCertificate(b, q.certificate)
	}
	if len(b) == 0 {
		return digest{}
	}
	return sha256.Sum256(b)
}

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

// bindNames are bind headers in the one order and spelling that is hashed.
func bindNames(headers []string) []string {
	names := make([]string, len(headers))
	for i, h := range headers {
		names[i] = strings.ToLower(h)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
