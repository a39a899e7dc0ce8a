package proxy

import (
	"bytes"
	"testing"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/message"
)

// FuzzOutcome: what two lines say of an attempt is what one line says that has both (RFC 9110
// section 5.3), in either order. A word is believed only if it is there, and no other one.
func FuzzOutcome(f *testing.F) {
	for _, seed := range [][2]string{
		{"executed", ""},
		{"Voided", " voided\t"},
		{"executed", "voided"},
		{"executed, unknown", "executed"},
		{",", ", ,executed"},
		{"executed;q=1", ""},
		{`"executed"`, ""},
		{"executed\x00", "unknown"},
	} {
		f.Add([]byte(seed[0]), []byte(seed[1]))
	}
	f.Fuzz(func(t *testing.T, one, two []byte) {
		if bytes.ContainsAny(one, "\r\n") || bytes.ContainsAny(two, "\r\n") {
			return // these are no values
		}
		lines := func(values ...[]byte) (string, bool) {
			var h fasthttp.ResponseHeader
			h.DisableNormalizing()
			for _, v := range values {
				h.AddBytesKV([]byte(message.HeaderOutcome), v)
			}
			said, err := saidOutcome(&h)
			return said, err == nil
		}
		said, clear := lines(one, two)
		if joined, c := lines(bytes.Join([][]byte{one, two}, []byte(", "))); joined != said || c != clear {
			t.Errorf("%q and %q on two lines say %q (%v), on one line %q (%v)", one, two, said, clear, joined, c)
		}
		if turned, c := lines(two, one); c != clear || clear && turned != said {
			t.Errorf("%q and %q say %q (%v), in the other order %q (%v)", one, two, said, clear, turned, c)
		}
		words := map[string]bool{}
		for _, v := range [][]byte{one, two} {
			for word := range bytes.SplitSeq(v, []byte(",")) {
				if word = bytes.ToLower(bytes.Trim(word, " \t")); len(word) > 0 {
					words[string(word)] = true
				}
			}
		}
		known := len(words) == 1 && (words[outcomeExecuted] || words[outcomeVoided] || words[outcomeUnknown])
		if believed := clear && said != ""; believed != known || known && !words[said] {
			t.Errorf("%q and %q say %q (%v): the words are %v", one, two, said, clear, words)
		}
	})
}
