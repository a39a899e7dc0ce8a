package token_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/idemproxy/idemproxy/token"
)

type key struct {
	id     string
	signer *ecdsa.PrivateKey
}

func newKey(t *testing.T, id string) key {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key{id, k}
}

func (k key) sign(t *testing.T, claims jwt.MapClaims) string {
	t.Helper()
	tok := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
	tok.Header["kid"] = k.id
	text, err := tok.SignedString(k.signer)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// set is the JSON Web Key Set of the keys' public halves.
func set(t *testing.T, keys ...key) []byte {
	t.Helper()
	all := make([]map[string]string, 0, len(keys))
	for _, k := range keys {
		x, y := coordinates(t, &k.signer.PublicKey)
		all = append(all, map[string]string{
			"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": k.id, "x": x, "y": y,
		})
	}
	text, err := json.Marshal(map[string]any{"keys": all})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// coordinates of a point, as RFC 7518 section 6.2.1 has them.
func coordinates(tb testing.TB, p *ecdsa.PublicKey) (x, y string) {
	tb.Helper()
	b, err := p.Bytes() // 4, x, y
	if err != nil {
		tb.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(b[1:33]), base64.RawURLEncoding.EncodeToString(b[33:65])
}

func verifier(t *testing.T, c token.Config) *token.Verifier {
	t.Helper()
	v, err := token.New(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

func fileOf(t *testing.T, text []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func valid(change ...func(jwt.MapClaims)) jwt.MapClaims {
	c := jwt.MapClaims{
		"sub": "acct_7", "iss": "https://issuer", "aud": []string{"payments"}, "exp": time.Now().Add(time.Hour).Unix(), "org": 42,
	}
	for _, f := range change {
		f(c)
	}
	return c
}

func TestClaims(t *testing.T) {
	t.Parallel()
	good, stranger := newKey(t, "1"), newKey(t, "1")
	v := verifier(t, token.Config{JWKS: fileOf(t, set(t, good)), Issuer: "https://issuer", Audience: "payments"})
	with := func(name string, value any) jwt.MapClaims { return valid(func(c jwt.MapClaims) { c[name] = value }) }
	without := func(name string) jwt.MapClaims { return valid(func(c jwt.MapClaims) { delete(c, name) }) }

	unsigned, err := jwt.NewWithClaims(jwt.SigningMethodNone, valid()).SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	hmac := jwt.NewWithClaims(jwt.SigningMethodHS256, valid())
	hmac.Header["kid"] = "1"
	public, err := good.signer.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	confused, err := hmac.SignedString(public)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	otherKind := jwt.NewWithClaims(jwt.SigningMethodRS256, valid())
	otherKind.Header["kid"] = "1"
	otherAlg, err := otherKind.SignedString(rsaKey)
	if err != nil {
		t.Fatal(err)
	}
	whole := good.sign(t, valid())

	for name, c := range map[string]struct{ token, claim, want string }{
		"good":               {whole, "sub", "acct_7"},
		"a number":           {whole, "org", "42"},
		"zero":               {good.sign(t, with("org", 0)), "org", "0"},
		"the largest number": {good.sign(t, with("org", 1<<53-1)), "org", "9007199254740991"},
		"more than is exact": {good.sign(t, with("org", 1<<53)), "org", ""},
		"below zero":         {good.sign(t, with("org", -1)), "org", ""},
		"no such claim":      {whole, "tenant", ""},
		"an empty claim":     {good.sign(t, with("sub", "")), "sub", ""},
		"a list":             {whole, "aud", ""},
		"a fraction":         {good.sign(t, with("org", 4.2)), "org", ""},
		"expired":            {good.sign(t, with("exp", time.Now().Add(-time.Hour).Unix())), "sub", ""},
		"no expiry":          {good.sign(t, without("exp")), "sub", ""},
		"not yet":            {good.sign(t, with("nbf", time.Now().Add(time.Hour).Unix())), "sub", ""},
		"another issuer":     {good.sign(t, with("iss", "https://evil")), "sub", ""},
		"no issuer":          {good.sign(t, without("iss")), "sub", ""},
		"another audience":   {good.sign(t, with("aud", "shop")), "sub", ""},
		"another key":        {stranger.sign(t, valid()), "sub", ""},
		"alg none":           {unsigned, "sub", ""},
		"HMAC by public key": {confused, "sub", ""},
		"another algorithm":  {otherAlg, "sub", ""},
		"cut":                {whole[:len(whole)-1], "sub", ""},
		"two parts":          {strings.Join(strings.Split(whole, ".")[:2], "."), "sub", ""},
		"huge":               {whole + strings.Repeat("x", token.MaxBytes), "sub", ""},
		"nothing":            {"", "sub", ""},
		"noise":              {"a.b.c", "sub", ""},
	} {
		for again := range 2 { // the second time perhaps out of memory
			got, _, err := v.Claim(c.token, c.claim)
			if got != c.want || (err == nil) != (c.want != "") || err != nil && !errors.Is(err, token.ErrInvalid) {
				t.Errorf("%s (%d): %q, %v", name, again, got, err)
			}
		}
	}
}

// A token of MaxBytes is taken, one of a byte more is not.
func TestTheLongestToken(t *testing.T) {
	t.Parallel()
	k := newKey(t, "1")
	v := verifier(t, token.Config{JWKS: fileOf(t, set(t, k))})
	sized := map[int]string{}
	for pad := token.MaxBytes / 2; len(sized[token.MaxBytes]) == 0 || len(sized[token.MaxBytes+1]) == 0; pad++ {
		for name := range 3 { // base64 leaves out every fourth length: another header moves it
			tok := jwt.NewWithClaims(jwt.SigningMethodES256, valid(func(c jwt.MapClaims) { c["pad"] = strings.Repeat("x", pad) }))
			tok.Header["kid"], tok.Header["typ"] = k.id, strings.Repeat("J", name+1)
			text, err := tok.SigningString()
			if err != nil {
				t.Fatal(err)
			}
			if n := len(text) + 1 + 86; n != token.MaxBytes && n != token.MaxBytes+1 { // with its signature
				if n > 2*token.MaxBytes {
					t.Fatal("no token has that length")
				}
				continue
			}
			if text, err = tok.SignedString(k.signer); err != nil {
				t.Fatal(err)
			}
			sized[len(text)] = text
		}
	}
	if _, _, err := v.Claim(sized[token.MaxBytes], "sub"); err != nil {
		t.Errorf("a token of %d bytes: %v", token.MaxBytes, err)
	}
	if _, _, err := v.Claim(sized[token.MaxBytes+1], "sub"); !errors.Is(err, token.ErrInvalid) {
		t.Errorf("a token of %d bytes: %v", token.MaxBytes+1, err)
	}
}

// What is remembered ends with the token.
func TestRememberedTokensExpire(t *testing.T) {
	t.Parallel()
	k := newKey(t, "1")
	v := verifier(t, token.Config{JWKS: fileOf(t, set(t, k)), Leeway: time.Millisecond})
	end := time.Now().Add(2 * time.Second).Truncate(time.Second)
	short := k.sign(t, valid(func(c jwt.MapClaims) { c["exp"] = end.Unix() }))
	if _, _, err := v.Claim(short, "sub"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(end) + 20*time.Millisecond) // nothing else tells of the clock
	if got, _, err := v.Claim(short, "sub"); err == nil {
		t.Errorf("%q out of an expired token", got)
	}
}

// A key that is new to the set is fetched when a token names it.
func TestKeysFromAURL(t *testing.T) {
	t.Parallel()
	first, second := newKey(t, "1"), newKey(t, "2")
	keys := make(chan []byte, 1)
	keys <- set(t, first)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		now := <-keys
		_, _ = w.Write(now)
		keys <- now
	}))
	t.Cleanup(server.Close)
	v := verifier(t, token.Config{JWKS: server.URL})
	if _, _, err := v.Claim(first.sign(t, valid()), "sub"); err != nil {
		t.Error(err)
	}
	<-keys
	keys <- set(t, first, second)
	if _, _, err := v.Claim(second.sign(t, valid()), "sub"); err != nil {
		t.Errorf("a rotated key: %v", err)
	}
}

// Tokens of unknown keys neither hang nor hammer whoever serves the set.
func TestStrangersAreCheap(t *testing.T) {
	t.Parallel()
	good := newKey(t, "1")
	var fetched atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fetched.Add(1)
		_, _ = w.Write(set(t, good))
	}))
	t.Cleanup(server.Close)
	v := verifier(t, token.Config{JWKS: server.URL})
	ended := make(chan error, 500)
	for i := range cap(ended) {
		stranger := key{fmt.Sprint("stranger ", i), good.signer}.sign(t, valid())
		go func() {
			_, _, err := v.Claim(stranger, "sub")
			ended <- err
		}()
	}
	for range cap(ended) {
		select {
		case err := <-ended:
			if !errors.Is(err, token.ErrInvalid) {
				t.Errorf("a stranger's token: %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("strangers' tokens hang")
		}
	}
	if n := fetched.Load(); n > 10 {
		t.Errorf("the set was fetched %d times", n)
	}
	if _, _, err := v.Claim(good.sign(t, valid()), "sub"); err != nil {
		t.Error(err)
	}
}

func TestKeySetsThatCannotBe(t *testing.T) {
	t.Parallel()
	broken := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(broken.Close)
	for name, where := range map[string]string{
		"no file": "/nonexistent", "no JSON": fileOf(t, []byte("{")), "a URL without a set": broken.URL, "nobody there": "http://127.0.0.1:1/",
	} {
		if v, err := token.New(token.Config{JWKS: where}, nil); err == nil {
			v.Close()
			t.Errorf("%s was taken", name)
		}
	}
}

func FuzzClaim(f *testing.F) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	name := filepath.Join(f.TempDir(), "keys.json")
	x, y := coordinates(f, &k.PublicKey)
	text := fmt.Sprintf(`{"keys":[{"kty":"EC","crv":"P-256","kid":"1","x":%q,"y":%q}]}`, x, y)
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		f.Fatal(err)
	}
	v, err := token.New(token.Config{JWKS: name}, nil)
	if err != nil {
		f.Fatal(err)
	}
	defer v.Close()
	f.Add("eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.", "sub")
	f.Add("a.b.c", "")
	f.Fuzz(func(t *testing.T, raw, name string) {
		if got, _, err := v.Claim(raw, name); err == nil {
			t.Errorf("%q: %q out of a token that nobody signed", raw, got)
		}
	})
}
