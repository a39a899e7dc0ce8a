package message

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/valyala/fasthttp"
)

// Errors of Sound: what two parsers could read as two different requests. Each
// is a 400, and the connection is closed, since where the next request starts is
// open to debate.
var (
	errBareLF     = errors.New("a header line ends in LF without CR")
	errFolded     = errors.New("a header line starts with a space (obs-fold)")
	errFieldName  = errors.New("a field name has a space in it")
	errTwoLengths = errors.New("the request has both Content-Length and Transfer-Encoding")
	errCoding     = errors.New("the only transfer coding that a request can have here is chunked")
	errHost       = errors.New("the Host field is not host:port")
	errOtherHost  = errors.New("the request target names another host than the Host field")
	errTargetForm = errors.New("the request target is neither a path nor an http URL")
	errFragment   = errors.New("the request target has a fragment (#), which is for the client alone")
	ErrVersion    = errors.New("the request is not HTTP/1.1 or HTTP/1.0")
)

// Sound refuses what fasthttp takes though others may frame it differently (RFC
// 9112 sections 2.2, 5.1, 5.2, 6.1; RFC 9110 section 7.2). Bare CR, NUL, field
// names that are no tokens, repeated or malformed lengths and malformed chunks
// do not get this far. A target in absolute form (RFC 9112 section 3.2.2) becomes
// the path that it means, so that its spelling makes no other request.
func Sound(h *fasthttp.RequestHeader) error {
	if v := h.Protocol(); string(v) != "HTTP/1.1" && string(v) != "HTTP/1.0" {
		return ErrVersion
	}
	var length, coding bool
	for raw := h.RawHeaders(); len(raw) > 0; {
		i := bytes.IndexByte(raw, '\n')
		if i < 1 || raw[i-1] != '\r' {
			return errBareLF
		}
		line := raw[:i-1]
		raw = raw[i+1:]
		if len(line) == 0 {
			break
		}
		if line[0] == ' ' || line[0] == '\t' {
			return errFolded
		}
		name := line[:max(bytes.IndexByte(line, ':'), 0)]
		if bytes.IndexByte(name, ' ') >= 0 {
			return errFieldName
		}
		switch {
		case EqualFold(name, "Content-Length"):
			length = true
		case EqualFold(name, "Transfer-Encoding"):
			coding = true
		}
	}
	if coding && h.ContentLength() != -1 {
		return errCoding
	}
	if coding && length {
		return errTwoLengths
	}
	if !IsAuthority(h.Host()) {
		return errHost
	}
	return originForm(h)
}

// IsAuthority says whether text is host and port of RFC 3986 section 3.2, without user and
// password. Empty is for HTTP/1.0, which has no Host. Labels of a name are not empty,
// but for the one of the root, which may end it. A port is digits or nothing: of name:80:80
// some servers take the name before the first colon, and others the one before the last. An
// IPv6 address may lack its brackets.
func IsAuthority(host []byte) bool {
	colon := -1
	for i, c := range host {
		if !authorityChars[c] {
			return false
		}
		if c == ':' && colon < 0 {
			colon = i
		}
	}
	switch {
	case len(host) > 0 && host[0] == '.' || bytes.Contains(host, []byte("..")):
		return false
	case len(host) > 0 && host[0] == '[':
		end := bytes.IndexByte(host, ']')
		return end > 0 && isAddress(host[1:end]) && (end == len(host)-1 || host[end+1] == ':' && isPort(host[end+2:]))
	case colon >= 0 && !isPort(host[colon+1:]):
		return isAddress(host)
	}
	return bytes.IndexByte(host, '[') < 0 && bytes.IndexByte(host, ']') < 0
}

func isPort(b []byte) bool {
	return !slices.ContainsFunc(b, func(c byte) bool { return c < '0' || c > '9' })
}

// isAddress is for an IPv6 address.
func isAddress(b []byte) bool {
	ip, err := netip.ParseAddr(string(b))
	return err == nil && ip.Is6() && ip.Zone() == ""
}

//nolint:gochecknoglobals // a constant, of a kind that Go has no word for
var authorityChars = func() (is [256]bool) {
	for c := '!'; c < 0x7f; c++ {
		is[c] = !strings.ContainsRune(`"#%/<>?@\^{|},`+"`", c)
	}
	return is
}()

// originForm makes the target a path and query.
func originForm(h *fasthttp.RequestHeader) error {
	target := h.RequestURI()
	if bytes.IndexByte(target, '#') >= 0 { // RFC 9112 section 3.2
		return errFragment
	}
	if len(target) == 0 || target[0] == '/' || h.IsConnect() || len(target) == 1 && target[0] == '*' {
		return nil
	}
	var rest []byte
	for _, scheme := range []string{"http://", "https://"} {
		if len(target) > len(scheme) && EqualFold(target[:len(scheme)], scheme) {
			rest = target[len(scheme):]
		}
	}
	end := bytes.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	authority := rest[:end]
	if len(authority) == 0 || !IsAuthority(authority) {
		return errTargetForm
	}
	if host := h.Host(); len(host) > 0 && !bytes.EqualFold(host, authority) {
		return errOtherHost
	}
	path := append([]byte(nil), rest[end:]...)
	switch {
	case len(path) == 0 && string(h.Method()) == "OPTIONS":
		path = []byte{'*'} // RFC 9112 section 3.2.4
	case len(path) == 0 || path[0] != '/':
		path = append([]byte{'/'}, path...)
	}
	h.SetHostBytes(append([]byte(nil), authority...))
	h.SetRequestURIBytes(path)
	return nil
}
