package operation

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/message"
)

func askedFor(t testing.TB, contentType, body string) *Asked {
	t.Helper()
	var h fasthttp.RequestHeader
	h.DisableNormalizing()
	text := fmt.Sprintf("POST /p HTTP/1.1\r\nHost: a\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", contentType, len(body))
	if err := h.Read(bufio.NewReader(strings.NewReader(text))); err != nil {
		t.Fatal(err)
	}
	head := new(message.Head)
	head.Read(&h)
	return &Asked{Head: head, Host: []byte("a"), Target: []byte("/p"), Body: []byte(body), Most: 1 << 20}
}

// Records of version 2 are compared as that version hashed, found by their text or by
// the same parts in the settings of now. These are hashes that it made.
func TestRecipesOfVersion2(t *testing.T) {
	t.Parallel()
	const text = `{"v":2,"fingerprint":["json","method","multipart","target"],"bind":[]}`
	was, err := parseRecipe(text, NewSecrets(nil))
	if err != nil {
		t.Fatal(err)
	}
	f, err := ParseFingerprint([]string{"method", "target", "json", "multipart"})
	if err != nil {
		t.Fatal(err)
	}
	now := NewRecipe(f, nil, "", nil)
	if now.ID == was.ID || !strings.HasPrefix(now.Text, `{"v":3,`) {
		t.Errorf("now it is %s", now.Text)
	}
	own, known := map[idem.Recipe]*Recipe{}, map[string]*Recipe{}
	NewRecipes(nil, nil, nil).Own(own, f, nil, "")
	for _, one := range own {
		known[one.Text] = one
	}
	for _, c := range []struct{ contentType, body, want string }{
		{"application/json", `{"b":1e-400,"a":[-0,1.0]}`, "2d5c4e3dfd6568c14d43cb7240e00f7e"},
		{"application/json; charset=utf-8", `{"n":9007199254740993}`, "ad82b7358efbbb94871339c7a522a8a0"},
		{
			"multipart/form-data; boundary=b", "pre\r\n--b\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--b--\r\npost",
			"3c4edb9f6fe409057f1895998d8f811b",
		},
	} {
		q := askedFor(t, c.contentType, c.body)
		for name, recipe := range map[string]*Recipe{"by its text": was, "by the settings": known[was.Text]} {
			if recipe == nil {
				t.Fatalf("%s: it is not known", name)
			}
			if got := recipe.Hashes(q, Digest{}).Fingerprint; hex.EncodeToString(got[:]) != c.want {
				t.Errorf("%s, %s: %x, want %s", c.body, name, got, c.want)
			}
		}
		if got := now.Hashes(q, Digest{}).Fingerprint; hex.EncodeToString(got[:]) == c.want {
			t.Errorf("%s is hashed as ever", c.body)
		}
	}
	for _, bad := range []string{
		`{"v":2,"fingerprint":["form","method"],"bind":[]}`, `{"v":2,"fingerprint":["json","except:/a"],"bind":[]}`,
		`{"v":3,"fingerprint":["body","method"],"bind":[]}`, `{"v":4,"fingerprint":["json"],"bind":[]}`,
	} {
		if c, err := parseRecipe(bad, NewSecrets(nil)); err == nil {
			t.Errorf("%s was read as %s", bad, c.Text)
		}
	}
}

// What no form is of, is hashed as version 2 did, under its name.
func TestOtherRecipesStay(t *testing.T) {
	t.Parallel()
	for _, parts := range [][]string{{"method", "target", "body"}, {"method", "path"}, {"method", "header:X-A"}} {
		f, err := ParseFingerprint(parts)
		if err != nil {
			t.Fatal(err)
		}
		if c := NewRecipe(f, nil, "", nil); !strings.HasPrefix(c.Text, `{"v":2,`) {
			t.Errorf("%v: %s", parts, c.Text)
		}
	}
}

// Numbers are one if and only if their values are; minus zero is not zero.
func TestNumbers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"1", "1.0", true},
		{"1", "10e-1", true},
		{"100", "1E2", true},
		{"0.1", "1e-1", true},
		{"0.10", "0.1", true},
		{"0", "0.00", true},
		{"0", "0e99999999999999999999", false}, // nobody reckons with that
		{"0", "-0", false},
		{"-0", "-0.0e5", true},
		{"0", "1e-400", false},
		{"1e-400", "1e-401", false},
		{"1e400", "1e401", false},
		{"9007199254740993", "9007199254740992", false},
		{"0.1", "0.10000000000000001", false},
		{"-1", "1", false},
		{"12e3", "1.2e4", true},
		{"1e+5", "1e05", true},
		{"1e99999999999999999999", "1e99999999999999999998", false},
		{"1e99999999999999999", "10e99999999999999998", true},
	} {
		if a, b := string(canonicalNumber([]byte(c.a))), string(canonicalNumber([]byte(c.b))); (a == b) != c.same {
			t.Errorf("%s is %s, %s is %s", c.a, a, c.b, b)
		}
	}
}

// FuzzNumber: exact rationals agree on which numbers are one.
func FuzzNumber(f *testing.F) {
	f.Add("1.50", "15e-1")
	f.Add("-0", "0")
	f.Add("1e-9", "0.000000001")
	f.Fuzz(func(t *testing.T, a, b string) {
		x, okA := rational(a)
		y, okB := rational(b)
		if !okA || !okB {
			t.Skip()
		}
		same := x.Cmp(y) == 0 && strings.HasPrefix(a, "-") == strings.HasPrefix(b, "-")
		formA, formB := canonicalNumber([]byte(a)), canonicalNumber([]byte(b))
		if bytes.Equal(formA, formB) != same {
			t.Errorf("%s is %s, %s is %s", a, formA, b, formB)
		}
		if again := canonicalNumber(formA); !bytes.Equal(again, formA) {
			t.Errorf("%s became %s became %s", a, formA, again)
		}
		plainA, plainB := plainNumber([]byte(a)), plainNumber([]byte(b))
		if (plainA == plainB) != same {
			t.Errorf("%s is %s, %s is %s", a, plainA, b, plainB)
		}
		if again := canonicalNumber([]byte(plainA)); !bytes.Equal(again, formA) {
			t.Errorf("%s is %s, which is another number", a, plainA)
		}
	})
}

// rational is a JSON number that is not too large to reckon with.
func rational(text string) (*big.Rat, bool) {
	d := decoderOf([]byte(text))
	if d.PeekKind() != '0' || strings.TrimSpace(text) != text {
		return nil, false
	}
	if _, err := d.ReadValue(); err != nil || atEnd(d) != nil {
		return nil, false
	}
	if i := strings.IndexAny(text, "eE"); i >= 0 && len(text)-i > 5 {
		return nil, false
	}
	return new(big.Rat).SetString(text)
}

// What except and only select of a body.
func TestSelections(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ selected, body, want string }{
		{"", `{"b":1.0,"a":["\u00e9",null]}`, `{"a":["é",null],"b":1}`},
		{"except:/sent_at", `{"sent_at":1,"a":{"sent_at":2}}`, `{"a":{"sent_at":2}}`},
		{"except:/items/*/trace", `{"items":[{"trace":1,"n":1},{"n":2,"trace":{"x":[]}},3]}`, `{"items":[{"n":1},{"n":2},3]}`},
		{"except:/items/1", `{"items":[1,2,3]}`, `{"items":[1,3]}`},
		{"except:/*", `{"*":1,"a":2}`, `{"a":2}`},
		{"except:/a,except:/a/b", `{"a":{"b":1},"c":2}`, `{"c":2}`},
		{"except:/a/b", `{"a":[{"b":1}]}`, `{"a":[{"b":1}]}`},
		{"except:/a/b", `{"a":5}`, `{"a":5}`},
		{"except:/a", `[1]`, `[1]`},
		{"except:/a", ` 5 `, `5`},
		{"only:/a", `{"a":{"y":1,"x":2},"b":3}`, `{"/a":{"x":2,"y":1}}`},
		{"only:/items/*/sku", `{"items":[{"sku":"x","n":1},7,{"sku":"y"}]}`, `{"/items/0/sku":"x","/items/2/sku":"y"}`},
		{"only:/a,only:/a/b", `{"a":{"b":1}}`, `{"/a":{"b":1}}`},
		{"only:/a~1b", `{"a/b":1}`, `{"/a~1b":1}`},
		{"only:/a", `{"b":1}`, `{}`},
		{"only:/a", `7`, `{}`},
	} {
		parts := []string{"json"}
		if c.selected != "" {
			parts = append(parts, strings.Split(c.selected, ",")...)
		}
		f, err := ParseFingerprint(parts)
		if err != nil {
			t.Fatal(err)
		}
		got, err := f.selected.canonical([]byte(c.body))
		if err != nil || string(got) != c.want {
			t.Errorf("%s of %s: %s, %v, want %s", c.selected, c.body, got, err, c.want)
		}
	}
	for _, bad := range []string{`{"a":1,"a":2}`, `{"a":1}x`, `{"b":{"x":1,"x":2}}`, ``, `[1,]`, "\xff", strings.Repeat("[", 20_000)} {
		for _, parts := range [][]string{{"json"}, {"json", "except:/b"}, {"json", "only:/a"}} {
			f, err := ParseFingerprint(parts)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := f.selected.canonical([]byte(bad)); err == nil {
				t.Errorf("%s of %.20q: %s", parts, bad, got)
			}
		}
	}
}

// FuzzSelections: what has a form has one only; the form of the form is itself; and
// leaving out what is not there changes nothing.
func FuzzSelections(f *testing.F) {
	f.Add([]byte(`{"a":[{"b":1.50},{"b":-0}],"c":"\u00e9"}`))
	f.Add([]byte(`[1e5,{"a":{"a":null}}]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		all, some, none := &selection{}, &selection{except: []pointer{{"a", "*", "b"}}}, &selection{only: []pointer{{"a", "*", "b"}, {"c"}}}
		form, err := all.canonical(body)
		less, err2 := some.canonical(body)
		picked, err3 := none.canonical(body)
		if (err == nil) != (err2 == nil) || (err == nil) != (err3 == nil) {
			t.Fatalf("%q: %v, %v, %v", body, err, err2, err3)
		}
		if err != nil {
			return
		}
		if again, err := all.canonical(form); err != nil || !bytes.Equal(again, form) {
			t.Errorf("%q became %q became %q (%v)", body, form, again, err)
		}
		for name, one := range map[string]struct {
			s    *selection
			want []byte
		}{"except": {some, less}, "only": {none, picked}} {
			if got, err := one.s.canonical(form); err != nil || !bytes.Equal(got, one.want) {
				t.Errorf("%s of %q is %q, and of its form %q (%v)", name, body, one.want, got, err)
			}
		}
	})
}

// No byte of a multipart body is left out: one that parsers read in several ways has no form,
// or one that changes with the byte.
func TestMultipartHasEveryByte(t *testing.T) {
	t.Parallel()
	const part = "\r\nA: b\r\n\r\n1\r\n--b--"
	for _, body := range []string{
		"--b" + part,
		"pre\r\n--bSEEN\r\n--b" + part,
		"--b SEEN\r\n--b" + part,
		"--b\nA: b\n\n1\n--b--\nSEEN\r\n--b--",
		"pre\n--b\nA: b\n\n1\n--b--\nx\r\n--b\r\nA: SEEN" + part,
		"--b" + part + "SEEN\r\n--b" + part,
		"--b--SEEN\r\n--b" + part,
	} {
		one, isOne := multipartParts([]byte(body), "b")
		other, isOther := multipartParts([]byte(strings.ReplaceAll(body, "SEEN", "ELSE")), "b")
		if same := !strings.Contains(body, "SEEN"); isOne != isOther || isOne && bytes.Equal(one, other) != same {
			t.Errorf("%q and with another word: the same is not %v", body, same)
		}
	}
	if _, ok := multipartParts([]byte("--b \t"+part), "b"); !ok {
		t.Error("spaces behind a delimiter mean something")
	}
}

// FuzzMultipart: bodies that differ in anything but their boundary have other forms.
func FuzzMultipart(f *testing.F) {
	f.Add([]byte("--b\r\nA: b\r\n\r\n1\r\n--b--\r\n"))
	f.Add([]byte("pre\r\n--b\r\n\r\n--b--x"))
	f.Fuzz(func(t *testing.T, body []byte) {
		form, ok := multipartParts(body, "b")
		if !ok {
			return
		}
		for i, changed := range [][]byte{append([]byte("x\r\n"), body...), append(bytes.Clone(body), "x\r\n"...)} {
			if other, ok := multipartParts(changed, "b"); ok && bytes.Equal(other, form) {
				t.Errorf("%q and %q (%d) are one", body, changed, i)
			}
		}
	})
}

// TestFormsOfManyFields: up to 10,000 fields have no order; more of them are compared as bytes.
func TestFormsOfManyFields(t *testing.T) {
	t.Parallel()
	const most = 10_000
	for n, want := range map[int]bool{most: true, most + 1: false} {
		names := make([]string, n)
		for i := range names {
			names[i] = strconv.Itoa(i) + "="
		}
		one := strings.Join(names, "&")
		slices.Reverse(names)
		a, okA := formFields([]byte(one))
		b, okB := formFields([]byte(strings.Join(names, "&")))
		if okA != want || okB != want || !bytes.Equal(a, b) {
			t.Errorf("%d fields: a form: %t and %t, want %t; equal: %t", n, okA, okB, want, bytes.Equal(a, b))
		}
	}
}

// shareNames says whether fields of both are of one name, or of members of it.
func shareNames(one, two string) bool {
	x, _ := pairsOf(one)
	y, _ := pairsOf(two)
	for _, a := range x {
		for _, b := range y {
			if a.root() == b.root() {
				return true
			}
		}
	}
	return false
}

// FuzzPairs: fields of other names in another order are the same query, and no other ones are.
func FuzzPairs(f *testing.F) {
	f.Add("a=1&b=2", "c=3")
	f.Add("a", "a=")
	f.Fuzz(func(t *testing.T, one, two string) {
		ab, ba := appendQuery(nil, []byte("/?"+one+"&"+two)), appendQuery(nil, []byte("/?"+two+"&"+one))
		if all, ok := pairsOf(one + "&" + two); ok && !shareNames(one, two) && !bytes.Equal(ab, ba) {
			t.Errorf("%q and %q of %v", ab, ba, all)
		}
		a, b := appendQuery(nil, []byte("/?"+one)), appendQuery(nil, []byte("/?"+two))
		x, okX := pairsOf(one)
		y, okY := pairsOf(two)
		if bytes.Equal(a, b) && (okX != okY || len(x) != len(y)) {
			t.Errorf("%q and %q are one: %q", one, two, a)
		}
	})
}
