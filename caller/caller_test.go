package caller

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/message"
)

// certificate is one of a given name and alternative names, issued anew.
func certificate(t *testing.T, name string, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
	}
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// upn is a subjectAltName with a Microsoft user principal name, which Go does not
// read.
func upn(t *testing.T, name string) func(*x509.Certificate) {
	t.Helper()
	type otherName struct {
		ID    asn1.ObjectIdentifier
		Value string `asn1:"tag:0,explicit,utf8"`
	}
	raw, err := asn1.MarshalWithParams(otherName{asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}, name}, "tag:0")
	if err != nil {
		t.Fatal(err)
	}
	value, err := asn1.Marshal([]asn1.RawValue{{FullBytes: raw}})
	if err != nil {
		t.Fatal(err)
	}
	return func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: subjectAltName(), Value: value}}
	}
}

// A caller is who the certificate names, by all of its names; renewing it makes
// nobody else of it.
func TestCallersByCertificate(t *testing.T) {
	t.Parallel()
	uri, err := url.Parse("spiffe://a/b")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[Digest]string{}
	of := func(c *x509.Certificate) Digest {
		return (&Caller{head: &message.Head{}, certificate: c}).By([]string{"authorization"})
	}
	for name, change := range map[string]func(*x509.Certificate){
		"none": func(*x509.Certificate) {}, "dns": func(c *x509.Certificate) { c.DNSNames = []string{"a"} },
		"ip":         func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)} },
		"another ip": func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 2)} },
		"e-mail":     func(c *x509.Certificate) { c.EmailAddresses = []string{"a"} },
		"uri":        func(c *x509.Certificate) { c.URIs = []*url.URL{uri} },
		"upn":        upn(t, "alice@corp"), "another upn": upn(t, "bob@corp"),
	} {
		who := of(certificate(t, "me", change))
		if other, taken := seen[who]; taken {
			t.Errorf("%s and %s are one caller", name, other)
		}
		seen[who] = name
		if of(certificate(t, "me", change)) != who {
			t.Errorf("%s: the same names in another certificate are another caller", name)
		}
		if of(certificate(t, "you", change)) == who {
			t.Errorf("%s: another subject is the same caller", name)
		}
	}
}

// Headers say who asks whatever their spelling and order, and only if they have
// a value.
func TestCallersByHeader(t *testing.T) {
	t.Parallel()
	of := func(raw string, bind ...string) Digest {
		var h fasthttp.RequestHeader
		h.DisableNormalizing()
		if err := h.Read(bufio.NewReader(strings.NewReader("GET / HTTP/1.1\r\nHost: x\r\n" + raw + "\r\n"))); err != nil {
			t.Fatal(err)
		}
		var head message.Head
		head.Read(&h)
		return (&Caller{head: &head}).By(bind)
	}
	me := of("Authorization: me\r\nX-A: 1\r\n", "authorization", "x-a")
	for _, same := range []Digest{
		of("X-A: 1\r\nauthorization: me\r\n", "authorization", "x-a"), of("Authorization: me\r\nX-A: 1\r\n", "authorization", "x-a"),
		of("Authorization: me\r\nX-A: 1\r\nX-A:\r\nX-B: 7\r\n", "authorization", "x-a"),
	} {
		if same != me {
			t.Error("one caller became two")
		}
	}
	for _, other := range []Digest{
		of("Authorization: m\r\nX-A: e1\r\n", "authorization", "x-a"), of("Authorization: 1\r\nX-A: me\r\n", "authorization", "x-a"),
		of("Authorization: me\r\n", "authorization", "x-a"), of("Authorization: me\r\nAuthorization: 1\r\n", "authorization", "x-a"),
	} {
		if other == me {
			t.Error("two callers became one")
		}
	}
	if of("Authorization:\r\n", "authorization") != (Digest{}) {
		t.Error("a field without a value says who asks")
	}
}

// A scope as a header field can have it.
func TestScopesAsFields(t *testing.T) {
	t.Parallel()
	for scope, want := range map[string]string{"": "", "header:a=b": "header:a=b", "header:a=b\x1fhost=c": "header:a=b\thost=c"} {
		if got := AsField(scope); got != want {
			t.Errorf("%q became %q, want %q", scope, got, want)
		}
	}
}
