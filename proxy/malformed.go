package proxy

import (
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/message"
)

// reasons says in our words why fasthttp does not take a header. Its own words are for
// developers, and most of its errors have no identity but their text. So they are looked
// for by it: TestMalformedRequestsAreToldWhy fails if a later release changes them.
//
//nolint:gochecknoglobals // a constant, of a kind that Go has no word for
var reasons = [...]struct{ theirs, ours string }{
	{"missing required host header", "the request has no Host field"},
	{"too many host headers", "the request has more than one Host field"},
	{"invalid header key", "a field name has a space, or another character that a name cannot have"},
	{"invalid header value", "a field value has a character that a value cannot have"},
	{"unsupported http version", "the first line does not end in one space and HTTP/1.1 or HTTP/1.0"},
	{"cannot find http request method", "the first line has no method"},
	{"unsupported http request method", "the method has a character that a method cannot have"},
	{"cannot find whitespace in the first line", "the first line is not METHOD TARGET HTTP/1.1"},
	{"requesturi cannot be empty", "the request has no target"},
	{"invalid request uri", "the request target is neither a path nor an http URL"},
	{"transfer-encoding", "the only transfer coding that a request can have here is chunked"},
	{"content-length", "Content-Length is not one number"},
}

// reasonOf is why fasthttp does not take a header; empty if that is not known.
func reasonOf(err error) string {
	text := err.Error()
	for _, r := range &reasons {
		if strings.Contains(text, r.theirs) {
			return r.ours
		}
	}
	return ""
}

// errHeaderTooLarge is a request's header for which the server has no room.
var errHeaderTooLarge = errors.New("the header is larger than max_header")

// errPlain is the fault of a client that speaks plain HTTP where TLS is spoken.
var errPlain = errors.New("this port speaks TLS, and plain HTTP came: use https://")

const (
	// methodStarts is how the methods of HTTP begin that somebody may send first.
	methodStarts = "GET  HEAD POST PUT  DELET PATCH OPTIO CONNE TRACE"
)

// plainBelow is the connection below TLS, if its client speaks plain HTTP. Nothing was sent
// on it yet.
func plainBelow(err error) net.Conn {
	var broken tls.RecordHeaderError
	if !errors.As(err, &broken) || broken.Conn == nil || !strings.Contains(methodStarts, string(broken.RecordHeader[:4])) {
		return nil
	}
	return broken.Conn
}

// answerPlain tells a client that the port speaks TLS. The server cannot: what it writes
// would be encrypted. The connection is closed afterwards.
func (s *Server) answerPlain(conn net.Conn, id []byte) {
	var resp fasthttp.Response
	problemRequestInvalid.write(&resp, false, instance{reason: errPlain.Error()})
	message.NameResponse(&resp.Header, id)
	resp.SetConnectionClose()
	_ = conn.SetWriteDeadline(time.Now().Add(lastWrite))
	_, _ = resp.WriteTo(conn)
	s.linger(conn)
}
