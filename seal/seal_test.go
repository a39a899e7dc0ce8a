package seal_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"runtime/metrics"
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
		"compressed from one byte on": {CompressFrom: 1},
		"both":                        {CompressFrom: 1000, Keys: []seal.Key{named("a"), named("b")}},
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
			if c.CompressFrom == 0 && len(sealed.Body) < len(body) {
				t.Errorf("%s, %s: compressed though nothing is to be", name, size)
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
		} else if errors.Is(err, seal.ErrUnknownKey) {
			t.Errorf("cut after %d bytes, and a key is said to be missing: %v", i, err)
		}
	}
}

// An operator who reads "version" looks for a newer release, one who reads "corrupt" for a backup. So what a
// later release may have written is told apart from what is broken, also when nothing is encrypted.
func TestWhatIsOfALaterReleaseIsNotCalledBroken(t *testing.T) {
	t.Parallel()
	c, k := codec(t, seal.Config{CompressFrom: 1}), key(t, "k")
	sealed, err := c.Seal(k, response(strings.Repeat("x", 1000)))
	if err != nil || !sealed.Sealed {
		t.Fatalf("sealed: %v, %v", sealed, err)
	}
	body := func(i int, b byte) []byte {
		changed := bytes.Clone(sealed.Body)
		changed[i] = b
		return changed
	}
	for name, want := range map[string]struct {
		body []byte
		err  error
	}{
		"a later version":      {body(0, 2), idem.ErrVersion},
		"a flag of later":      {body(1, sealed.Body[1]|1<<2), idem.ErrVersion},
		"nothing":              {nil, idem.ErrVersion},
		"a version alone":      {sealed.Body[:1], idem.ErrVersion},
		"nothing behind flags": {sealed.Body[:2], idem.ErrCorrupt},
		"half of it":           {sealed.Body[:len(sealed.Body)/2], idem.ErrCorrupt},
	} {
		if _, err := c.Open(k, &idem.Response{Status: 201, Sealed: true, Body: want.body}); !errors.Is(err, want.err) {
			t.Errorf("%s: %v, want %v", name, err, want.err)
		}
	}
}

// A nonce that is used twice under one key gives away both responses, and the key that makes the tags. So nothing of
// two envelopes is the same behind the name of their key, even of one response of one record.
func TestNoNonceIsUsedTwice(t *testing.T) {
	t.Parallel()
	c, k := codec(t, seal.Config{Keys: []seal.Key{named("a")}}), key(t, "k")
	seen := map[string]bool{}
	for range 100 {
		sealed, err := c.Seal(k, response("x"))
		if err != nil {
			t.Fatal(err)
		}
		nonce := string(sealed.Body[4:16]) // behind version, flags, the name's length and the name
		if seen[nonce] {
			t.Fatalf("the nonce %x was used twice", nonce)
		}
		seen[nonce] = true
	}
}

// CompressFrom is the first size that is compressed.
func TestCompressFromIsCompressed(t *testing.T) {
	t.Parallel()
	r := response(strings.Repeat("x", 1000))
	size := len(idem.AppendResponse(nil, r)) // what would be stored
	for from, want := range map[int]bool{size - 1: true, size: true, size + 1: false} {
		sealed, err := codec(t, seal.Config{CompressFrom: from}).Seal(key(t, "k"), r)
		if err != nil || sealed.Sealed != want {
			t.Errorf("a response of %d bytes, compressed from %d on: %v, %v", size, from, sealed.Sealed, err)
		}
	}
}

// What an earlier release has stored can be opened: this envelope was sealed when the format was version 1, compressed and encrypted.
func TestWhatWasSealedEarlierCanBeOpened(t *testing.T) {
	t.Parallel()
	const stored = "01030161e9a7f1090b028ac08c6589114239e50722107acd55f2f3e57ad5f3474bc23e7c4d3ace227104b84b183c680c66339d1fe19ecd091e8c6746c23d9dbc"
	body, err := hex.DecodeString(stored)
	if err != nil {
		t.Fatal(err)
	}
	c := codec(t, seal.Config{Keys: []seal.Key{{Name: "a", Secret: []byte("0123456789abcdef0123456789abcdef")}}})
	got, err := c.Open(key(t, "k"), &idem.Response{Status: 201, Sealed: true, Body: body})
	if err != nil || got.Status != 201 || string(got.Body) != strings.Repeat("x", 100) || string(got.Header[0].Value) != "4242" {
		t.Errorf("opened: %+v, %v", got, err)
	}
}

// A damaged record cannot make the proxy allocate what it claims to be long.
func TestWhatIsDecompressedIsBounded(t *testing.T) { //nolint:paralleltest // it looks at the memory of all
	c, k := codec(t, seal.Config{CompressFrom: 1}), key(t, "k")
	sealed, err := c.Seal(k, response(strings.Repeat("x", 1000)))
	if err != nil {
		t.Fatal(err)
	}
	claim := append(binary.AppendUvarint(bytes.Clone(sealed.Body[:2]), 3<<30), sealed.Body[4:]...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = c.Open(k, &idem.Response{Status: 201, Sealed: true, Body: claim})
	runtime.ReadMemStats(&after)
	if !errors.Is(err, idem.ErrCorrupt) {
		t.Errorf("a claim of 3 GiB: %v", err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<30 {
		t.Errorf("a claim of 3 GiB: %d bytes were allocated", n)
	}
}

// A name of 255 bytes is the longest that the envelope has room for.
func TestTheLongestNameOfAKey(t *testing.T) {
	t.Parallel()
	longest := named(strings.Repeat("n", 255))
	c, k := codec(t, seal.Config{Keys: []seal.Key{longest}}), key(t, "k")
	sealed, err := c.Seal(k, response("x"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Open(k, sealed); err != nil || string(got.Body) != "x" {
		t.Errorf("opened: %v, %v", got, err)
	}
	if _, err := seal.New(seal.Config{Keys: []seal.Key{named(strings.Repeat("n", 256))}}); err == nil {
		t.Error("a name of 256 bytes was taken: its length does not fit")
	}
}

func TestKeyFiles(t *testing.T) {
	t.Parallel()
	good := base64.StdEncoding.EncodeToString(named("x").Secret)
	for text, keys := range map[string]int{
		"a:" + good: 1, "# new\nb:" + good + "\n\n  a:" + good + "  \n": 2,
		"a:" + good + "\n#" + strings.Repeat("x", 70_000) + "\nb:" + good: 2,
		"": 0, "#\n": 0, "a": 0, good: 0, "a:" + good[:40]: 0, "a:b:" + good: 0, "a:!" + good[1:]: 0, "a:" + good + "!": 0,
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
	file := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(file, []byte("a:"+good+"\n\nb:"+good[1:]+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.ReadKeys(file); err == nil || !strings.Contains(err.Error(), file+":3:") {
		t.Errorf("a bad third line: %v, which does not name it", err)
	}
	if _, err := seal.New(seal.Config{Keys: []seal.Key{named("a"), named("a")}}); err == nil {
		t.Error("two keys of one name were taken")
	}
	if _, err := seal.New(seal.Config{Keys: []seal.Key{{Name: "a", Secret: make([]byte, 16)}}}); err == nil {
		t.Error("a short key was taken")
	}
}

// mostOpened is how much memory a record may take that says that it is large, and something
// for what else is going on.
const mostOpened = 1<<30 + 32<<20

// allocated is how many bytes this process has allocated so far.
func allocated() uint64 {
	all := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(all)
	return all[0].Value.Uint64()
}

// FuzzOpen: whatever is at rest, to open it ends in no panic, and takes no more memory than
// the largest response may. What is compressed begins with its length, which may say anything.
func FuzzOpen(f *testing.F) {
	c := codec(f, seal.Config{Keys: []seal.Key{named("a")}, CompressFrom: 1})
	k := key(f, "k")
	for _, s := range []*seal.Codec{c, codec(f, seal.Config{CompressFrom: 1})} {
		sealed, err := s.Seal(k, response(strings.Repeat("x", 100)))
		if err != nil {
			f.Fatal(err)
		}
		for bits := uint8(0); bits < 64; bits += 8 {
			f.Add(sealed.Body, bits)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, bits uint8) {
		if says := uint64(1) << (bits % 64); len(b) > 2 && bits > 0 && (says <= 1<<20 || says > 1<<30) { // those between take time alone
			b = append(binary.AppendUvarint(bytes.Clone(b[:2]), says), b[2:]...)
		}
		before := allocated()
		_, _ = c.Open(k, &idem.Response{Status: 200, Sealed: true, Body: b})
		if took := allocated() - before; took > mostOpened {
			t.Errorf("%d bytes at rest took %d", len(b), took)
		}
	})
}
