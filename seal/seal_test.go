package seal_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/seal"
)

func key(t testing.TB, value string) idem.Key {
	t.Helper()
	k, err := idem.ParseKey(value)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func named(name string) seal.Key {
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	return seal.Key{Name: name, Secret: secret}
}

func codec(t testing.TB, c seal.Config) *seal.Codec {
	t.Helper()
	made, err := seal.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func response(body string) *idem.Response {
	return &idem.Response{
		Status: 201, Header: []idem.Field{{Name: []byte("X-Pan"), Value: []byte("4242")}}, Body: []byte(body),
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	noise := make([]byte, 4096)
	_, _ = rand.Read(noise)
	bodies := map[string]string{"empty": "", "short": "x", "long": strings.Repeat("secret ", 1000), "noise": string(noise)}
	for name, c := range map[string]seal.Config{
		"nothing": {}, "compressed": {CompressFrom: 1000}, "encrypted": {Keys: []seal.Key{named("a")}},
		"both": {CompressFrom: 1000, Keys: []seal.Key{named("a"), named("b")}},
	} {
		for size, body := range bodies {
			codec, k := codec(t, c), key(t, "k")
			before := response(body)
			sealed, err := idem.SealResponse(codec, k, before)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(before, response(body)) {
				t.Errorf("%s, %s: sealing changed the response", name, size)
			}
			if sealed.Sealed != (len(c.Keys) > 0 || c.CompressFrom > 0 && size == "long") {
				t.Errorf("%s, %s: sealed: %v", name, size, sealed.Sealed)
			}
			if c.CompressFrom > 0 && size == "long" && len(sealed.Body) > len(body)/2 {
				t.Errorf("%s, %s: %d bytes of %d", name, size, len(sealed.Body), len(body))
			}
			stored := idem.AppendResponse(nil, sealed)
			if len(c.Keys) > 0 && (bytes.Contains(stored, []byte("4242")) || bytes.Contains(stored, []byte("secret"))) {
				t.Errorf("%s, %s: it is readable: %q", name, size, stored)
			}
			read, err := idem.DecodeResponse(stored)
			if err != nil {
				t.Fatal(err)
			}
			got, err := idem.OpenResponse(codec, k, read)
			if err != nil || got.Status != 201 || string(got.Body) != body || string(got.Header[0].Value) != "4242" || got.Sealed {
				t.Errorf("%s, %s: opened: %+v, %v", name, size, got, err)
			}
		}
	}
}

// Old keys still read; a key that is gone fails; so does another record's
// response, and any bit that was changed.
func TestWhatCannotBeOpened(t *testing.T) {
	t.Parallel()
	old, current := named("old"), named("current")
	k := key(t, "k")
	sealed, err := codec(t, seal.Config{Keys: []seal.Key{old}}).Seal(k, response("x"))
	if err != nil {
		t.Fatal(err)
	}
	rotated := codec(t, seal.Config{Keys: []seal.Key{current, old}})
	if got, err := rotated.Open(k, sealed); err != nil || string(got.Body) != "x" {
		t.Errorf("after rotation: %v", err)
	}
	if _, err := codec(t, seal.Config{Keys: []seal.Key{current}}).Open(k, sealed); !errors.Is(err, seal.ErrUnknownKey) {
		t.Errorf("without the old key: %v", err)
	}
	if _, err := codec(t, seal.Config{Keys: []seal.Key{{Name: "old", Secret: current.Secret}}}).Open(k, sealed); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("another key of that name: %v", err)
	}
	if _, err := rotated.Open(key(t, "other"), sealed); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("moved to another record: %v", err)
	}
	if _, err := idem.OpenResponse(nil, k, sealed); !errors.Is(err, idem.ErrSealed) {
		t.Errorf("without a codec: %v", err)
	}
	for i := range sealed.Body {
		for bit := range 8 {
			changed := *sealed
			changed.Body = bytes.Clone(sealed.Body)
			changed.Body[i] ^= 1 << bit
			if _, err := rotated.Open(k, &changed); err == nil {
				t.Fatalf("bit %d of byte %d was changed, and nobody noticed", bit, i)
			}
		}
		changed := *sealed
		changed.Body = sealed.Body[:i]
		if _, err := rotated.Open(k, &changed); err == nil {
			t.Fatalf("cut after %d bytes, and nobody noticed", i)
		}
	}
}

func TestKeyFiles(t *testing.T) {
	t.Parallel()
	good := base64.StdEncoding.EncodeToString(named("x").Secret)
	for text, keys := range map[string]int{
		"a:" + good: 1, "# new\nb:" + good + "\n\n  a:" + good + "  \n": 2,
		"": 0, "#\n": 0, "a": 0, good: 0, "a:" + good[:40]: 0, "a:b:" + good: 0, "a:!" + good[1:]: 0,
	} {
		file := filepath.Join(t.TempDir(), "keys")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := seal.ReadKeys(file)
		if len(got) != keys || (err == nil) != (keys > 0) {
			t.Errorf("%q: %d keys, %v", text, len(got), err)
		}
		if err != nil && strings.Contains(err.Error(), good[5:30]) {
			t.Errorf("the error shows the key: %v", err)
		}
	}
	if _, err := seal.New(seal.Config{Keys: []seal.Key{named("a"), named("a")}}); err == nil {
		t.Error("two keys of one name were taken")
	}
	if _, err := seal.New(seal.Config{Keys: []seal.Key{{Name: "a", Secret: make([]byte, 16)}}}); err == nil {
		t.Error("a short key was taken")
	}
}

func FuzzOpen(f *testing.F) {
	c := codec(f, seal.Config{Keys: []seal.Key{named("a")}, CompressFrom: 1})
	k := key(f, "k")
	for _, s := range []*seal.Codec{c, codec(f, seal.Config{CompressFrom: 1})} {
		sealed, err := s.Seal(k, response(strings.Repeat("x", 100)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(sealed.Body)
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = c.Open(k, &idem.Response{Status: 200, Sealed: true, Body: b}) // no panic, no huge allocation
	})
}
