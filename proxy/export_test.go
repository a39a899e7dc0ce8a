package proxy

import (
	"bufio"
	"net/url"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/message"
	"github.com/idemproxy/idemproxy/upstream"
)

// readHeader parses a request header as the server would.
func readHeader(h *fasthttp.RequestHeader, raw string) error {
	h.DisableNormalizing()
	return h.Read(bufio.NewReader(strings.NewReader(raw)))
}

// Buffered is how many bytes count as being in memory.
func (s *Server) Buffered() int64 { return s.admission.bytes.Load() }

// RouteAt is RouteOf for what need be no request, such as POST *.
func RouteAt(sorted []Route, method, host, path string) int {
	r := routes{sorted: sorted}
	return r.match(message.HostName(message.CanonicalHost(nil, []byte(host))), []byte(method), []byte(path))
}

// KnowAtMost has the settler know of that many attempts in doubt.
func (s *Server) KnowAtMost(n int) {
	s.settler.open.mu.Lock()
	defer s.settler.open.mu.Unlock()
	s.settler.open.most = n
}

// AfterEvent is what is left of a stream of events behind one of them.
func AfterEvent(stream, id string) string { return stream[afterEvent([]byte(stream), []byte(id)):] }

// LongestLease is longestLease.
func (s *Server) LongestLease() time.Duration { return s.longestLease() }

// Trusting has certificates of ca be those of the endpoint.
func (h *HTTPReceipts) Trusting(ca []byte) error {
	u, err := url.Parse(h.url)
	if err != nil {
		return err
	}
	return h.use(&upstream.Config{Backends: []string{u.Scheme + "://" + u.Host}, CA: ca})
}
