package operation

import "testing"

// FuzzCanonicalJSON: what has a canonical form has one only, and keeps it.
func FuzzCanonicalJSON(f *testing.F) {
	for _, seed := range []string{`{"b":1,"a":[true,null,"x"]}`, `1e3`, `"\u00e9"`, `{"a":1,"a":2}`, `[0.1,`, `9007199254740993`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		once, ok := canonicalJSON(body)
		if !ok {
			return
		}
		if hasLongNumber(once) {
			return // printed with more digits than it came with
		}
		if twice, ok := canonicalJSON(once); !ok || string(twice) != string(once) {
			t.Errorf("%q became %q became %q", body, once, twice)
		}
	})
}
