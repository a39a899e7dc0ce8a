package operation_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/operation"
)

// A multipart body that ends anywhere before its last delimiter cannot be read, whether the
// key came before its end or not: else each retry of what was cut off would execute. Some
// programs write it with LF alone.
func TestMultipartCutAnywhere(t *testing.T) {
	t.Parallel()
	s, err := operation.ParseSources([]string{"form:id"})
	if err != nil {
		t.Fatal(err)
	}
	const whole = "before\r\n--b\r\nContent-Disposition: form-data; name=\"a\"\r\nX-More:\r\n folded\r\n\r\n1\r\n" +
		"--b \r\nContent-Disposition: form-data; name=\"id\"\r\n\r\n7\r\n--b--"
	for _, c := range []struct {
		body string
		ends []string // that may follow
	}{
		{whole, []string{"", " \t", "\r\n", "\r\nbehind", "\r\n--b\r\nX: "}},
		{strings.ReplaceAll(whole, "\r\n", "\n"), []string{"", " ", "\n", "\nbehind"}},
	} {
		for n := 1; n < len(c.body); n++ {
			if f, err := s.Find(askedOf(t, "POST", "/", parts, c.body[:n]), true); !errors.Is(err, operation.ErrUnreadable) {
				t.Errorf("%q: %+v, %v", c.body[:n], f, err)
			}
		}
		for _, end := range c.ends {
			if f, err := s.Find(askedOf(t, "POST", "/", parts, c.body+end), true); err != nil || f.Key.Value() != "7" {
				t.Errorf("%q: %+v, %v", c.body+end, f, err)
			}
		}
	}
}
