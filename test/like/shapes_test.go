package like_test

import (
	"fmt"
	"strings"
)

// shape is a request and the backend's response to it, as they are on the wire.
type shape struct {
	name              string
	request, response string
	answers           int // how many responses the client waits for; 1 unless set
	// differs says why nginx and this proxy do not do the same; ours is then what
	// must be in what client and backend get through this one.
	differs string
	ours    []string
}

const ok = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"

func request(method, target string, rest ...string) string {
	fields, body := rest, ""
	if n := len(rest); n > 0 && strings.HasPrefix(rest[n-1], "\x00") {
		fields, body = rest[:n-1], rest[n-1][1:]
		chunked := false
		for _, f := range fields {
			chunked = chunked || strings.HasPrefix(f, "Transfer-Encoding")
		}
		if !chunked {
			fields = append(fields, fmt.Sprintf("Content-Length: %d", len(body)))
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: api.example\r\n", method, target)
	for _, f := range fields {
		b.WriteString(f + "\r\n")
	}
	return b.String() + "\r\n" + body
}

// body is the last argument of request.
func body(text string) string { return "\x00" + text }

func response(status string, rest ...string) string {
	text, fields := "", rest
	if n := len(rest); n > 0 && strings.HasPrefix(rest[n-1], "\x00") {
		fields, text = rest[:n-1], rest[n-1][1:]
	}
	var b strings.Builder
	b.WriteString("HTTP/1.1 " + status + "\r\n")
	framed := strings.HasPrefix(status, "204") || strings.HasPrefix(status, "304")
	for _, f := range fields {
		b.WriteString(f + "\r\n")
		framed = framed || strings.HasPrefix(f, "Content-Length") || strings.HasPrefix(f, "Transfer-Encoding")
	}
	if !framed {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(text))
	}
	return b.String() + "\r\n" + text
}

func shapes() []shape {
	var all []shape
	for _, part := range [][]shape{methods(), targets(), fields(), bodies(), statuses(), responses(), connections()} {
		all = append(all, part...)
	}
	for i := range all {
		if all[i].response == "" {
			all[i].response = ok
		}
	}
	return all
}

func methods() (all []shape) {
	for _, m := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "PURGE"} {
		all = append(all, shape{name: "method " + m, request: request(m, "/pay", "Accept: */*")})
	}
	return append(all,
		shape{name: "HEAD with a length", request: request("HEAD", "/"), response: "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"},
		shape{name: "HEAD, chunked", request: request("HEAD", "/"), response: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"},
		shape{name: "HEAD of a 404", request: request("HEAD", "/"), response: "HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n"},
	)
}

func targets() (all []shape) {
	for name, target := range map[string]string{
		"query": "/pay?a=1&b=2", "empty query": "/pay?", "encoded slash": "/a%2Fb", "encoded in lower case": "/a%2fb",
		"dot segments": "/a/./b/../c", "two slashes": "//a//b", "plus and space": "/a+b%20c", "semicolon": "/a;v=1/b",
		"unicode, encoded": "/%E2%82%AC", "long": "/" + strings.Repeat("x", 4000), "long query": "/?q=" + strings.Repeat("y", 4000),
		"query with a slash and a question mark": "/a?b=/c?d", "colon": "/a:b", "tilde and friends": "/~a-b_c.d!$&'()*,=@",
		"percent percent": "/a%25b", "brackets in the query": "/?a[]=1&a[]=2", "trailing slash": "/a/", "pipe in the query": "/?a=b|c",
	} {
		all = append(all, shape{name: "target: " + name, request: request("GET", target)})
	}
	return append(all,
		shape{name: "target: absolute", request: request("GET", "http://api.example/a?b")},
		shape{
			name: "target: asterisk", request: request("OPTIONS", "*"), differs: "nginx refuses it; RFC 9110 section 9.3.7 lets it pass",
			ours: []string{"OPTIONS * HTTP/1.1", "200 OK"},
		},
	)
}

func fields() (all []shape) {
	for name, lines := range map[string][]string{
		"spelled as they are": {"x-lower: 1", "X-UPPER: 2", "x-MiXeD: 3"}, "repeated": {"X-A: 1", "X-B: 2", "X-A: 3"},
		"cookies": {"Cookie: a=1; b=2"}, "authorization": {"Authorization: Bearer x.y.z"}, "accept": {"Accept: text/html;q=0.8, */*"},
		"encodings": {"Accept-Encoding: gzip, br"}, "range": {"Range: bytes=0-9"}, "if-none-match": {`If-None-Match: "a", W/"b"`},
		"if-modified-since": {"If-Modified-Since: Sat, 01 Jan 2000 00:00:00 GMT"}, "language": {"Accept-Language: de, en;q=0.5"},
		"user agent": {"User-Agent: curl/8"}, "underscore": {"X_Under: 1"}, "long": {"X-Long: " + strings.Repeat("z", 4000)},
		"spaces around": {"X-Spaces:    a  b   "}, "referer and origin": {"Referer: http://a/b", "Origin: http://a"},
		"preflight":                 {"Origin: http://a", "Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: x-a"},
		"proxy authorization aside": {"Proxy-Connection-X: 1"}, "max-forwards": {"Max-Forwards: 3"}, "no-cache": {"Pragma: no-cache", "Cache-Control: no-cache"},
		"trace":  {"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate: a=b"},
		"quoted": {`X-Quoted: "a \" b", c`}, "comma list": {"X-List: a,b, c"}, "keep-alive": {"Keep-Alive: timeout=5", "Connection: keep-alive"},
	} {
		all = append(all, shape{name: "fields: " + name, request: request("GET", "/", lines...)})
	}
	var many []string
	for i := range 80 {
		many = append(many, fmt.Sprintf("X-N-%d: %d", i, i))
	}
	return append(all,
		shape{name: "fields: many", request: request("GET", "/", many...)},
		shape{
			name: "fields: empty", request: request("GET", "/", "X-Empty:"),
		},
		shape{
			name: "fields: nominated by Connection", request: request("GET", "/", "Connection: x-hop", "X-Hop: 1", "X-End: 2"),
			differs: "nginx lets X-Hop pass; RFC 9110 section 7.6.1 forbids it", ours: []string{"\nX-End: 2\n"},
		},
		shape{
			name: "fields: TE", request: request("GET", "/", "TE: trailers"),
		},
		shape{
			name: "fields: cookies in two lines", request: request("GET", "/", "Cookie: a=1", "Cookie: b=2"),
		},
	)
}

func bodies() []shape {
	form := "a=1&b=2"
	multipart := "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x\"\r\n\r\n\x01\x02\r\n--b--\r\n"
	chunks := "5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n"
	te := "Transfer-Encoding: chunked"
	return []shape{
		{name: "body: empty", request: request("POST", "/", body(""))},
		{name: "body: one byte", request: request("POST", "/", body("x"))},
		{name: "body: form", request: request("POST", "/", "Content-Type: application/x-www-form-urlencoded", body(form))},
		{name: "body: multipart", request: request("POST", "/", "Content-Type: multipart/form-data; boundary=b", body(multipart))},
		{name: "body: JSON", request: request("PUT", "/", "Content-Type: application/json; charset=utf-8", body(`{"a":"€"}`))},
		{name: "body: binary", request: request("POST", "/", body("\x00\xff\r\n\r\n\x80"))},
		{name: "body: gzip", request: request("POST", "/", "Content-Encoding: gzip", body("\x1f\x8b\x08\x00"))},
		{name: "body: 64 KiB", request: request("POST", "/", body(strings.Repeat("x", 64<<10)))},
		{name: "body: 1 MiB", request: request("POST", "/", body(strings.Repeat("0123456789abcdef", 64<<10)))},
		{name: "body: of a GET", request: request("GET", "/", body("why not"))},
		{name: "body: of a DELETE", request: request("DELETE", "/", body("x"))},
		{name: "body: chunked", request: request("POST", "/", te, body(chunks))},
		{name: "body: chunked, empty", request: request("POST", "/", te, body("0\r\n\r\n"))},
		{name: "body: chunked, with an extension", request: request("POST", "/", te, body("2;a=b\r\nhi\r\n0\r\n\r\n"))},
		{name: "body: chunked, sizes with zeros", request: request("POST", "/", te, body("0002\r\nhi\r\n0\r\n\r\n"))},
		{name: "body: chunked, 1 MiB", request: request("POST", "/", te, body(strings.Repeat("10\r\n0123456789abcdef\r\n", 64<<10)+"0\r\n\r\n"))},
		{name: "body: chunked, with a trailer", request: request("POST", "/", te, "Trailer: X-Sum", body("2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n"))},
		{name: "body: expected", request: request("POST", "/", "Expect: 100-continue", body("hello"))},
	}
}

func statuses() (all []shape) {
	for _, status := range []string{
		"200 OK", "201 Created", "202 Accepted", "203 Non-Authoritative Information", "206 Partial Content", "207 Multi-Status",
		"300 Multiple Choices", "301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect",
		"400 Bad Request", "401 Unauthorized", "402 Payment Required", "403 Forbidden", "404 Not Found", "405 Method Not Allowed",
		"409 Conflict", "410 Gone", "412 Precondition Failed", "415 Unsupported Media Type", "416 Range Not Satisfiable", "418 I'm a teapot",
		"422 Unprocessable Entity", "425 Too Early", "428 Precondition Required", "429 Too Many Requests", "451 Unavailable For Legal Reasons",
		"500 Internal Server Error", "501 Not Implemented", "502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout", "599 Own",
		"299 Words Of Our Own",
	} {
		all = append(all, shape{
			name: "status " + status, request: request("POST", "/", body("x")),
			response: response(status, "Location: /elsewhere", "X-A: 1", body("text of "+status)),
		})
	}
	return append(all,
		shape{
			name: "status without a reason", request: request("GET", "/"), response: response("200 ", body("x")),
			differs: "fasthttp writes the usual reason, which clients ignore (RFC 9112 section 4)", ours: []string{"200 OK"},
		},
		shape{name: "status 204", request: request("POST", "/", body("x")), response: response("204 No Content", "X-A: 1")},
		shape{name: "status 304", request: request("GET", "/", `If-None-Match: "a"`), response: response("304 Not Modified", `ETag: "a"`)},
	)
}

func responses() (all []shape) {
	for name, r := range map[string]string{
		"cookies":             response("200 OK", "Set-Cookie: a=1; Path=/", "Set-Cookie: b=2; HttpOnly", "Set-Cookie: c=3", body("x")),
		"spelled as they are": response("200 OK", "x-lower: 1", "X-UPPER: 2", "x-MiXeD: 3", body("x")),
		"repeated":            response("200 OK", "X-A: 1", "X-B: 2", "X-A: 3", body("x")),
		"own server and date": response("200 OK", "Server: theirs/1", "Date: Sat, 01 Jan 2000 00:00:00 GMT", body("x")),
		"challenges":          response("401 Unauthorized", `WWW-Authenticate: Basic realm="a"`, `WWW-Authenticate: Bearer`, body("x")),
		"validators":          response("200 OK", `ETag: W/"a"`, "Last-Modified: Sat, 01 Jan 2000 00:00:00 GMT", body("x")),
		"caching":             response("200 OK", "Cache-Control: max-age=60, private", "Expires: 0", "Vary: Accept, Origin", "Vary: Cookie", "Age: 3", body("x")),
		"gzip":                response("200 OK", "Content-Encoding: gzip", body("\x1f\x8b\x08\x00\x00")),
		"range":               response("206 Partial Content", "Content-Range: bytes 0-0/9", "Accept-Ranges: bytes", body("x")),
		"cors":                response("200 OK", "Access-Control-Allow-Origin: *", "Access-Control-Expose-Headers: x-a", body("x")),
		"security":            response("200 OK", "Strict-Transport-Security: max-age=1", "Content-Security-Policy: default-src 'self'", "X-Frame-Options: DENY", body("x")),
		"link and retry":      response("503 Service Unavailable", "Retry-After: 3", `Link: </a>; rel="next"`, body("x")),
		"disposition":         response("200 OK", `Content-Disposition: attachment; filename="a b"`, "Content-Language: de", body("x")),
		"long field":          response("200 OK", "X-Long: "+strings.Repeat("z", 8000), body("x")),
		"no type":             response("200 OK", body("x")),
		"empty body":          response("200 OK", "Content-Type: text/plain", body("")),
		"binary":              response("200 OK", body("\x00\x01\r\n\r\n\xff")),
		"64 KiB":              response("200 OK", body(strings.Repeat("x", 64<<10))),
		"1 MiB":               response("200 OK", body(strings.Repeat("0123456789abcdef", 64<<10))),
		"chunked":             response("200 OK", "Transfer-Encoding: chunked", body("5\r\nhello\r\n3\r\n, w\r\n0\r\n\r\n")),
		"chunked, empty":      response("200 OK", "Transfer-Encoding: chunked", body("0\r\n\r\n")),
		"chunked, 1 MiB":      response("200 OK", "Transfer-Encoding: chunked", body(strings.Repeat("10\r\n0123456789abcdef\r\n", 64<<10)+"0\r\n\r\n")),
		"events":              response("200 OK", "Content-Type: text/event-stream", "Transfer-Encoding: chunked", body("b\r\ndata: one\n\n\r\n0\r\n\r\n")),
		"until it closes":     "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nto the end",
		"HTTP/1.0":            "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: 3\r\n\r\nold",
		"continue first":      "HTTP/1.1 100 Continue\r\n\r\n" + ok,
		"early hints first":   "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n" + ok,
		"keep-alive":          response("200 OK", "Keep-Alive: timeout=5", "Connection: keep-alive", body("x")),
		"trailer":             response("200 OK", "Trailer: X-Sum", "Transfer-Encoding: chunked", body("2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n")),
	} {
		all = append(all, shape{name: "response: " + name, request: request("GET", "/"), response: r})
	}
	return append(all,
		shape{
			name: "response: empty field", request: request("GET", "/"), response: response("200 OK", "X-Empty:", body("x")),
		},
		shape{
			name: "response: nominated by Connection", request: request("GET", "/"),
			response: response("200 OK", "Connection: x-hop", "X-Hop: 1", "X-End: 2", body("x")),
			differs:  "nginx lets X-Hop pass; RFC 9110 section 7.6.1 forbids it", ours: []string{"200 OK\nX-End: 2\n"},
		},
	)
}

func connections() []shape {
	get := request("GET", "/1")
	return []shape{
		{name: "connection: two requests at once", request: get + request("GET", "/2"), answers: 2},
		{name: "connection: three, with bodies", answers: 3, request: request("POST", "/1", body("one")) + request("POST", "/2", body("two")) + get},
		{name: "connection: closed by the client", request: request("GET", "/", "Connection: close")},
		{name: "connection: HTTP/1.0", request: "GET / HTTP/1.0\r\nHost: api.example\r\n\r\n"},
		{name: "connection: HTTP/1.0, kept", request: "GET / HTTP/1.0\r\nHost: api.example\r\nConnection: keep-alive\r\n\r\n"},
		{
			name: "connection: HTTP/1.0, chunked response", request: "GET / HTTP/1.0\r\nHost: api.example\r\n\r\n",
			response: response("200 OK", "Transfer-Encoding: chunked", body("2\r\nhi\r\n0\r\n\r\n")),
		},
		{name: "connection: host with a port", request: "GET / HTTP/1.1\r\nHost: api.example:8080\r\n\r\n"},
		{name: "connection: empty lines first", request: "\r\n" + get},
	}
}
