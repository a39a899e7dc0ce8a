package idem_test

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/idem"
)

func TestParseKey(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, value string
		want        error
	}{
		{"one character", "k", nil},
		{"255 characters", strings.Repeat("k", 255), nil},
		{"spaces, quotes, braces, commas", ` a"b{c},d* `, nil},
		{"percent signs are not decoded", "%0a", nil},
		{"empty", "", idem.ErrKeyEmpty},
		{"256 characters", strings.Repeat("k", 256), idem.ErrKeyTooLong},
		{"tab", "a\tb", idem.ErrKeyChars},
		{"newline", "a\nb", idem.ErrKeyChars},
		{"NUL", "a\x00b", idem.ErrKeyChars},
		{"DEL", "a\x7fb", idem.ErrKeyChars},
		{"UTF-8", "clé", idem.ErrKeyChars},
		{"8-bit", "a\xe9b", idem.ErrKeyChars},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			key, err := idem.ParseKey(c.value)
			if !errors.Is(err, c.want) {
				t.Fatalf("ParseKey(%q) = %v, want %v", c.value, err, c.want)
			}
			if err == nil && key.Value() != c.value {
				t.Errorf("the key became %q", key.Value())
			}
		})
	}
}

func TestKeyStringGivesNothingAway(t *testing.T) {
	t.Parallel()
	key, _ := idem.ParseKey("4242424242424242")
	if s := key.String(); strings.Contains(s, "4242") || !strings.HasPrefix(s, "key:") {
		t.Errorf("String() = %q", s)
	}
}

func TestKeyIDsOfScopes(t *testing.T) {
	t.Parallel()
	a, _ := idem.ParseKey("b")
	ab, _ := idem.ParseKey("ab")
	ids := map[[16]byte]string{}
	for name, k := range map[string]idem.Key{
		"b": a, "b in a": a.InScope("a"), "ab": ab, "b in aa": a.InScope("aa"),
	} {
		if other, taken := ids[k.ID()]; taken {
			t.Errorf("%s and %s have one ID", name, other)
		}
		ids[k.ID()] = name
	}
}

// A key is found by the version after this one, and by one of another machine, under the
// name that it has now: another name is a new key, and executes again. SHA-256 over the
// length of the scope, eight bytes, the scope and the value; the first half of it.
func TestKeyIDsStayAsTheyAre(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ scope, value, id string }{
		{"", "order-42", "4f1c61bc99649c1c436b8c79c878edf0"},
		{"acct_7", "order-42", "efede8fd7a29551659108fcd736241da"},
		{strings.Repeat("x", 300), strings.Repeat("y", 255), "afd2fdc55ae3e3775cba126cc8fc74fc"},
	} {
		k, err := idem.ParseKey(c.value)
		if err != nil {
			t.Fatal(err)
		}
		k = k.InScope(c.scope)
		if id := k.ID(); hex.EncodeToString(id[:]) != c.id {
			t.Errorf("the ID of %q in %q is %x, was %s", c.value, c.scope, id, c.id)
		}
		if k.String() != "key:"+c.id[:12] {
			t.Errorf("its digest is %s, was key:%s", k, c.id[:12])
		}
	}
}

// FuzzKey: what is accepted is kept as it is, and two keys are one only if they
// are written alike.
func FuzzKey(f *testing.F) {
	f.Add("a", "A")
	f.Add(`"quoted"`, "quoted")
	f.Add("%0a", "\n")
	f.Fuzz(func(t *testing.T, x, y string) {
		kx, errX := idem.ParseKey(x)
		ky, errY := idem.ParseKey(y)
		if errX != nil || errY != nil {
			return
		}
		if kx.Value() != x || (kx == ky) != (x == y) || (kx.ID() == ky.ID()) != (x == y) {
			t.Errorf("%q and %q: keys %v %v", x, y, kx, ky)
		}
	})
}

func BenchmarkParseKey(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := idem.ParseKey("0197a5d2-6c1e-7f3a-9a44-5b6c7d8e9f00"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkKeyID(b *testing.B) {
	key, _ := idem.ParseKey("0197a5d2-6c1e-7f3a-9a44-5b6c7d8e9f00")
	b.ReportAllocs()
	for b.Loop() {
		key.ID()
	}
}
