package operation_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"testing"

	"github.com/idemproxy/idemproxy/message"
	"github.com/idemproxy/idemproxy/operation"
)

// FuzzCodings: whatever a body says that its codings are, it is what they make of it, never
// more than may be, or it is refused; and as gzip the standard library's reader agrees.
func FuzzCodings(f *testing.F) {
	f.Add("gzip", []byte(zipped("a")))
	f.Add("gzip, x-gzip", []byte(zipped(zipped("a"))))
	f.Add("gzip", []byte(zipped("a")+zipped("b")))
	f.Add("deflate", []byte("x\x9cK\x04\x00\x00b\x00b"))
	f.Add("br", []byte("\x0b\x00\x80a\x03"))
	f.Add("zstd", []byte("\x28\xb5\x2f\xfd\x04\x00\x09\x00\x00a\x9f\xe8\x5e\x16"))
	f.Add("identity,pigeon", []byte("a"))
	f.Fuzz(func(t *testing.T, codings string, body []byte) {
		if !message.IsPrintable([]byte(codings)) {
			t.Skip()
		}
		const most = 1 << 12
		q := askedOf(t, "POST", "/", "text/plain", string(body), "Content-Encoding: "+codings)
		q.Most = most
		got, err := q.Plain()
		switch {
		case err != nil && !errors.Is(err, operation.ErrUnreadable) && !errors.Is(err, operation.ErrExpands):
			t.Errorf("another error: %v", err)
		case err == nil && len(got) > most && !bytes.Equal(got, body):
			t.Errorf("%d bytes out of %d", len(got), len(body))
		case err == nil && codings == "gzip":
			r, err := gzip.NewReader(bytes.NewReader(body))
			if err != nil {
				t.Fatalf("read as %q, and is no gzip: %v", got, err)
			}
			if want, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%q, want %q (%v)", got, want, err)
			}
		}
	})
}
