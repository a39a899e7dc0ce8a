package proxy_test

import (
	"bytes"
	"compress/gzip"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// What a body becomes without its content coding is looked at for the key and again for the
// fingerprint. It is in memory once, and counts once.
func TestABodyThatHasItsKeyCountsOnce(t *testing.T) {
	t.Parallel()
	came, answer := make(chan struct{}), make(chan struct{})
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		came <- struct{}{}
		<-answer
		backendtest.OK(c, q)
	}, keysIn(t, "json:/order"))
	plain := `{"order":"7","text":"` + strings.Repeat("x", 64<<10) + `"}`
	var body bytes.Buffer
	w := gzip.NewWriter(&body)
	_, _ = w.Write([]byte(plain))
	_ = w.Close()
	done := make(chan error, 1)
	go func() {
		_, err := r.try("POST", "/pay", "", body.String(), isJSON, "Content-Encoding: gzip")
		done <- err
	}()
	<-came
	if n := r.server.Buffered(); n < int64(len(plain)) || n >= 2*int64(len(plain)) {
		t.Errorf("%d bytes count, of a body that has %d and becomes %d", n, body.Len(), len(plain))
	}
	close(answer)
	if err := <-done; err != nil {
		t.Error(err)
	}
	r.until("nothing counts any more", func() bool { return r.server.Buffered() == 0 })
}
