package proxy

import (
	"bufio"
	"strings"

	"github.com/valyala/fasthttp"
)

// readHeader parses a request header as the server would.
func readHeader(h *fasthttp.RequestHeader, raw string) error {
	h.DisableNormalizing()
	return h.Read(bufio.NewReader(strings.NewReader(raw)))
}

// Buffered is how many bytes count as being in memory.
func (s *Server) Buffered() int64 { return s.admission.bytes.Load() }
