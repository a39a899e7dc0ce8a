package operation

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// FuzzPointer: a pointer that is read is written as one that is the same, and finds in a document what
// the standard library finds by walking it.
func FuzzPointer(f *testing.F) {
	f.Add("/a/0/b", []byte(`{"a":[{"b":7}]}`))
	f.Add("/a~1b/~01", []byte(`{"a/b":{"~1":"x"}}`))
	f.Add("", []byte(`[1]`))
	f.Add("/-", []byte(`[1]`))
	f.Add("/01", []byte(`[1,2]`))
	f.Add("#/a%2Cb", []byte(`{"a,b":1}`))
	f.Add("/", []byte(`{"":null}`))
	f.Fuzz(func(t *testing.T, text string, body []byte) {
		p, err := parsePointer(text)
		if err != nil {
			return
		}
		if again, err := parsePointer(p.String()); err != nil || !slices.Equal(again, p) {
			t.Errorf("%q became %q, and %q (%v)", text, p, again, err)
		}
		got, err := p.at(body)
		if err != nil {
			return
		}
		var whole any
		if json.Unmarshal(body, &whole) != nil {
			return // the document has a member twice, or a BOM: tested elsewhere
		}
		want := whole
		found := true
		for _, name := range p {
			switch in := want.(type) {
			case map[string]any:
				want, found = in[name]
			case []any:
				i := len(in)
				if name == "0" || name != "" && !strings.HasPrefix(name, "0") {
					i = 0
					for _, c := range name {
						if c < '0' || c > '9' || i > len(in) {
							i = len(in)
							break
						}
						i = i*10 + int(c-'0')
					}
				}
				if found = i < len(in); found {
					want = in[i]
				}
			default:
				found = false
			}
			if !found {
				break
			}
		}
		if found != (got != nil) {
			t.Fatalf("%q in %q: %q, want it %v", text, body, got, found)
		}
		if !found {
			return
		}
		var have any
		if err := json.Unmarshal(got, &have); err != nil {
			t.Fatalf("%q in %q: %q, %v", text, body, got, err)
		}
		a, _ := json.Marshal(have)
		b, _ := json.Marshal(want)
		if string(a) != string(b) {
			t.Errorf("%q in %q: %s, want %s", text, body, a, b)
		}
	})
}
