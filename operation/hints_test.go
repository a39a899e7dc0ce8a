package operation_test

import (
	"bufio"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/message"
	"github.com/idemproxy/idemproxy/operation"
)

// Each part has a byte of its own, which the others do not change; and with a secret, who
// does not have it cannot make the bytes.
func TestHints(t *testing.T) {
	t.Parallel()
	parts := []string{"method", "target", "json", "header:X-Kind"}
	f, err := operation.ParseFingerprint(parts)
	if err != nil {
		t.Fatal(err)
	}
	type asked struct{ method, target, kind, body string }
	hints := func(s *operation.Secret, a asked) idem.Hints {
		var h fasthttp.RequestHeader
		raw := a.method + " " + a.target + " HTTP/1.1\r\nHost: a.example\r\nContent-Type: application/json\r\nX-Kind: " + a.kind + "\r\n\r\n"
		if err := h.Read(bufio.NewReader(strings.NewReader(raw))); err != nil {
			t.Fatal(err)
		}
		var head message.Head
		head.Read(&h)
		c := operation.NewRecipe(f, nil, "", s)
		q := &operation.Asked{Head: &head, Host: []byte("a.example"), Target: []byte(a.target), Body: []byte(a.body)}
		return c.Hashes(q, operation.Digest{}).Hints
	}
	first := asked{"POST", "/pay", "card", `{"a":1,"b":2}`}
	secret := operation.NewSecret([]byte("0123456789abcdef0123456789abcdef"))
	for _, s := range []*operation.Secret{nil, secret} {
		is := hints(s, first)
		for want, other := range map[idem.Part]asked{
			idem.PartNone:    {"POST", "/pay", "card", ` {"b":2,"a":1}`},
			idem.PartMethod:  {"PUT", "/pay", "card", first.body},
			idem.PartTarget:  {"POST", "/pay?x", "card", first.body},
			idem.PartHeaders: {"POST", "/pay", "cash", first.body},
			idem.PartBody:    {"POST", "/pay", "card", `{"a":1,"b":3}`},
		} {
			if got := is.Differ(hints(s, other)); got != idem.PartPayload|want {
				t.Errorf("with a secret: %v; %+v: %v differs, want %v", s != nil, other, got, want)
			}
		}
	}
	if hints(nil, first) == hints(secret, first) {
		t.Error("the secret does not count")
	}
	// Few bytes: a difference is seen in all but about one case of 256.
	same := 0
	for i := range 4096 {
		other := first
		other.body = `{"a":` + string(rune('0'+i%10)) + `,"b":` + string(rune('a'+i/256)) + string(rune(i)) + `}`
		if !hints(secret, first).Differ(hints(secret, other)).Has(idem.PartBody) {
			same++
		}
	}
	if same > 64 {
		t.Errorf("of 4096 other bodies, %d have the first one's byte", same)
	}
}
