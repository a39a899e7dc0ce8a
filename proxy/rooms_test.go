package proxy_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// TestRoomsAreNobodyElses: what large responses are read into is used again, and no
// client, and no record, ever gets another one's bytes: of responses with a length,
// chunked ones, and replays, of many clients at once.
func TestRoomsAreNobodyElses(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		body := strings.Repeat(string(q.Payload)+" ", 20_000)
		if q.Header.Get("X-Chunked") == "" {
			c.Answer(http.StatusOK, body)
			return
		}
		c.Raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		for half := range strings.SplitSeq(body[:len(body)/2]+"|"+body[len(body)/2:], "|") {
			c.Raw(fmt.Sprintf("%x\r\n%s\r\n", len(half), half))
		}
		c.Raw("0\r\n\r\n")
	})
	var all sync.WaitGroup
	for client := range 6 {
		all.Go(func() {
			for n := range 10 {
				payload := fmt.Sprintf("client %d, %d", client, n)
				var header []string
				if n%2 == 1 {
					header = []string{"X-Chunked: 1"}
				}
				for try := range 2 {
					a, err := r.try(http.MethodPost, "/pay", strings.ReplaceAll(payload, ", ", "-"), payload, header...)
					if want := strings.Repeat(payload+" ", 20_000); err != nil || a.body != want {
						t.Errorf("%s, try %d: %d bytes, of which %d are its own (%v)",
							payload, try, len(a.body), strings.Count(a.body, payload+" ")*(len(payload)+1), err)
					}
				}
			}
		})
	}
	all.Wait()
}
