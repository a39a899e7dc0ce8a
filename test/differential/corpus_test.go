package differential_test

import (
	"fmt"
	"slices"
	"strings"
)

// message is what a client sends over one connection.
type message struct {
	name string
	// text has {k} where fields with the key go; each is another key.
	text string
	// means are the requests that it consists of. None: nobody may make requests
	// of it, and the proxy must refuse it.
	means []record
	// odd: the proxy may refuse it, but not read anything else in it.
	odd bool
	// cut: it breaks off, or goes wrong, so late that a part of it may have gone on.
	cut bool
}

const (
	get     = "GET /p HTTP/1.1\r\nHost: x\r\n{k}"
	post    = "POST /p HTTP/1.1\r\nHost: x\r\n{k}"
	chunked = "Transfer-Encoding: chunked\r\n"
	// smuggled is what no reader may ever read as a request. It has 38 bytes, 26 in hex.
	smuggled = "GET /smuggled HTTP/1.1\r\nHost: x.io\r\n\r\n"
	// swallower is another one, that would also take what comes behind it.
	swallower = "POST /smuggled HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n"
)

func meaning(method, target, body string) record { return recordOf(method, target, []byte(body), 0) }

// whole is a POST with a body.
func whole(name, fields, wire, body string) message {
	return message{name: name, text: post + fields + "\r\n" + wire, means: []record{meaning("POST", "/p", body)}}
}

// sized is a POST with a body and its length.
func sized(name, fields, body string) message {
	return whole(name, fields+fmt.Sprintf("Content-Length: %d\r\n", len(body)), body, body)
}

// inChunks is a POST with a chunked body.
func inChunks(name, wire, body string) message { return whole(name, chunked, wire, body) }

// bare is a request without a body.
func bare(name, method, target string) message {
	return message{
		name: name, text: method + " " + target + " HTTP/1.1\r\nHost: x\r\n{k}\r\n", means: []record{meaning(method, target, "")},
	}
}

// field is a GET with fields.
func field(name, fields string) message {
	return message{name: "field: " + name, text: get + fields + "\r\n\r\n", means: []record{meaning("GET", "/p", "")}}
}

// bad is a message that means nothing; what must not be taken for a request
// follows it.
func bad(name, text string) message { return message{name: name, text: text + smuggled} }

// odd marks messages that may be refused.
func odd(all ...message) []message {
	for i := range all {
		all[i].odd = true
	}
	return all
}

// late marks messages that may be refused when a part of them has gone on.
func late(all ...message) []message {
	for i := range all {
		all[i].odd, all[i].cut = true, true
	}
	return all
}

func cut(name, text string) message { return message{name: name, text: text, cut: true} }

func corpus() []message {
	return slices.Concat(
		methods(), targets(), lengths(), codings(), chunks(), oddChunks(), trailers(), lookalikes(), fields(), oddFields(),
		lines(), pipelines(), expectations(), cuts(), badLengths(), badCodings(), badChunks(), badHeads(),
	)
}

func methods() (all []message) {
	for _, m := range []string{"GET", "HEAD", "DELETE", "OPTIONS", "PROPFIND", "MKCOL"} {
		all = append(all, bare("method "+m, m, "/p"))
	}
	for _, m := range []string{"PUT", "PATCH", "DELETE", "GET", "OPTIONS", "REPORT"} {
		text := strings.Replace(post, "POST", m, 1)
		all = append(
			all,
			message{name: "method " + m + " with a body", text: text + "Content-Length: 38\r\n\r\n" + smuggled, means: []record{meaning(m, "/p", smuggled)}},
			message{name: "method " + m + " with chunks", text: text + chunked + "\r\n26\r\n" + smuggled + "\r\n0\r\n\r\n", means: []record{meaning(m, "/p", smuggled)}},
		)
	}
	head := strings.Replace(post, "POST", "HEAD", 1)
	return append(all, odd(
		message{name: "method HEAD with a body", text: head + "Content-Length: 38\r\n\r\n" + smuggled, means: []record{meaning("HEAD", "/p", smuggled)}},
		message{name: "method HEAD with chunks", text: head + chunked + "\r\n26\r\n" + smuggled + "\r\n0\r\n\r\n", means: []record{meaning("HEAD", "/p", smuggled)}},
		bare("method in small letters", "get", "/p"), bare("method of one's own", "BREW", "/p"), bare("method with a dash", "M-SEARCH", "/p"),
		bare("method of one letter", "X", "/p"), bare("method with a digit", "GET1", "/p"), bare("method PURGE", "PURGE", "/p"), bare("method TRACE", "TRACE", "/p"),
		bare("method with marks", "!#$%&'*+-.^_`|~", "/p"),
	)...)
}

func targets() (all []message) {
	for _, target := range []string{
		"/", "/?", "/a?b=1&c=2", "/a%2Fb", "/a%2fb", "/a+b%20c", "/a;v=1/b", "/%E2%82%AC", "/a/", "/a:b", "/~a-b_c.d!$&'()*,=@", "/a?b=/c?d",
		"/a%25b", "/?a[]=1&a[]=2", "/a?http://y/", "/" + strings.Repeat("x", 4000), "/?" + strings.Repeat("y", 4000), "/a%3Fb", "/a%23b",
		"/a//b", "//a", "/a/./b", "/a/../b", "/a/b/..", "/a?b%0d%0aX:%20y", "/a%5cb",
	} {
		all = append(all, bare(fmt.Sprintf("target %.40s", target), "GET", target))
	}
	for _, target := range []string{
		"/a%0d%0aX:%20y", "/a%0d%0a%0d%0aGET%20/smuggled", "/a%00b", "/%zz", "/a%", "/a%2", "/a|b", `/a"b`, "/a<b>", `/a\b`, "/a^b", "/a`b", "/a{b}",
		"/ü", "/\x80\xff", "/a?ü", "/a?b#c", "/a#b", "/../a", "/..", "/%2e%2e/a", "///", "/a?b?c#", "//smuggled@x/", "/http://x/", "/a%C0%AFb", "/a\x7fb",
	} {
		all = append(all, odd(bare(fmt.Sprintf("target %q", target), "GET", target))...)
	}
	for target, path := range map[string]string{
		"http://x/a?b": "/a?b", "http://x": "/", "HTTP://X/a": "/a", "http://x?q": "/?q", "http://x/a%2Fb": "/a%2Fb", "http://x//a": "//a",
	} {
		m := bare("target absolute: "+target, "GET", target)
		m.means = []record{meaning("GET", path, "")}
		all = append(all, m)
	}
	star := bare("target absolute for OPTIONS", "OPTIONS", "http://x")
	star.means = []record{meaning("OPTIONS", "*", "")}
	return append(all, odd(bare("target asterisk", "OPTIONS", "*"), star)...)
}

func lengths() []message {
	big := strings.Repeat("0123456789abcdef", 64<<10)
	return slices.Concat([]message{
		whole("length 0", "Content-Length: 0\r\n", "", ""),
		whole("no length", "", "", ""),
		sized("length 1", "", "x"),
		sized("body of CRLFs", "", "\r\n\r\n\r\n"),
		sized("body of NUL and high bytes", "", "\x00\xff\r\n\r\n\x80"),
		sized("body of all bytes", "", everyByte()),
		sized("body of 64 KiB", "", big[:64<<10]), sized("body of 64 KiB and 1", "", big[:64<<10+1]), sized("body of 1 MiB", "", big),
		sized("body of 4095 bytes", "", big[:4095]), sized("body of 4096 bytes", "", big[:4096]), sized("body of 4097 bytes", "", big[:4097]),
		sized("body of 16 KiB", "", big[:16<<10]),
		sized("form", "Content-Type: application/x-www-form-urlencoded\r\n", "a=1&b=2"),
		sized("multipart", "Content-Type: multipart/form-data; boundary=b\r\n",
			"--b\r\nContent-Disposition: form-data; name=\"f\"\r\n\r\n"+smuggled+"\r\n--b--\r\n"),
		sized("gzip", "Content-Encoding: gzip\r\n", "\x1f\x8b\x08\x00"),
	}, odd(
		whole("length 005", "Content-Length: 005\r\n", "hello", "hello"),
		whole("length 00000000000000000000005", "Content-Length: 00000000000000000000005\r\n", "hello", "hello"),
		whole("length 000", "Content-Length: 000\r\n", "", ""),
		whole("length after a tab", "Content-Length:\t5\r\n", "hello", "hello"),
		whole("length amid spaces", "Content-Length:   5  \r\n", "hello", "hello"),
		whole("length without a space", "Content-Length:5\r\n", "hello", "hello"),
		whole("length before a tab", "Content-Length: 5\t\r\n", "hello", "hello"),
		whole("length in capitals", "CONTENT-LENGTH: 5\r\n", "hello", "hello"),
		whole("length in small letters", "content-length: 5\r\n", "hello", "hello"),
		whole("length nominated by Connection", "Content-Length: 38\r\nConnection: content-length\r\n", smuggled, smuggled),
	))
}

func everyByte() string {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	return string(all)
}

func codings() []message {
	te := func(line string) message {
		return whole(fmt.Sprintf("coding %q", line), line+"\r\n", "26\r\n"+smuggled+"\r\n0\r\n\r\n", smuggled)
	}
	return slices.Concat([]message{te("Transfer-Encoding: chunked")}, odd(
		te("transfer-encoding: chunked"), te("TRANSFER-ENCODING: CHUNKED"), te("Transfer-Encoding: Chunked"), te("Transfer-Encoding:chunked"),
		te("Transfer-Encoding:\tchunked"), te("Transfer-Encoding:  chunked\t "), te("Transfer-Encoding: chunked\r\nConnection: transfer-encoding"),
		te("Transfer-Encoding: chunked\r\nContent_Length: 3"), te("Transfer-Encoding: chunked\r\nX-Content-Length: 3"),
		te("Transfer-Encoding: chunked\r\nContent-Type: text/plain\r\nContent-Length-: 3"), te("TE: chunked\r\nTransfer-Encoding: chunked"),
	))
}

func chunks() []message {
	return []message{
		inChunks("chunks: none", "0\r\n\r\n", ""),
		inChunks("chunks: one", "5\r\nhello\r\n0\r\n\r\n", "hello"),
		inChunks("chunks: two", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", "hello"),
		inChunks("chunks: of one byte", strings.Repeat("1\r\nx\r\n", 500)+"0\r\n\r\n", strings.Repeat("x", 500)),
		inChunks("chunks: capital hex", "A\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
		inChunks("chunks: small hex", "a\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
		inChunks("chunks: of CRLF", "2\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
		inChunks("chunks: that look like the last", "5\r\n0\r\n\r\n\r\n0\r\n\r\n", "0\r\n\r\n"),
		inChunks("chunks: the last, then a request", "2b\r\n0\r\n\r\n"+smuggled+"\r\n0\r\n\r\n", "0\r\n\r\n"+smuggled),
		inChunks("chunks: 64 KiB in one", "10000\r\n"+strings.Repeat("x", 64<<10)+"\r\n0\r\n\r\n", strings.Repeat("x", 64<<10)),
		inChunks("chunks: 128 KiB in small ones", strings.Repeat("10\r\n0123456789abcdef\r\n", 8<<10)+"0\r\n\r\n", strings.Repeat("0123456789abcdef", 8<<10)),
		inChunks("chunks: all bytes", "100\r\n"+everyByte()+"\r\n0\r\n\r\n", everyByte()),
	}
}

func oddChunks() []message {
	return late(
		inChunks("chunks: zeros in front", "0005\r\nhello\r\n0\r\n\r\n", "hello"),
		inChunks("chunks: many zeros in front", "00000000000000000000005\r\nhello\r\n0\r\n\r\n", "hello"),
		inChunks("chunks: the last of many zeros", "5\r\nhello\r\n000000\r\n\r\n", "hello"),
		inChunks("chunks: extension", "5;a=b\r\nhello\r\n0\r\n\r\n", "hello"),
		inChunks("chunks: extension without value", "5;a\r\nhello\r\n0\r\n\r\n", "hello"),
		inChunks("chunks: empty extension", "5;\r\nhello\r\n0\r\n\r\n", "hello"),
		inChunks("chunks: quoted extension", "5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n", "hello"),
		inChunks("chunks: two extensions", "5;a=b;c=d\r\nhello\r\n0\r\n\r\n", "hello"),
		inChunks("chunks: extension after a space", "5 ;a=b\r\nhello\r\n0\r\n\r\n", "hello"),
		inChunks("chunks: extension with spaces", "5; a = b\r\nhello\r\n0\r\n\r\n", "hello"),
		inChunks("chunks: long extension", "5;a="+strings.Repeat("b", 1000)+"\r\nhello\r\n0\r\n\r\n", "hello"),
		inChunks("chunks: extension of the last", "5\r\nhello\r\n0;a=b\r\n\r\n", "hello"),
		inChunks("chunks: extension with a size in it", "5;26\r\nhello\r\n0;5\r\n\r\n", "hello"),
		inChunks("chunks: space after the size", "5 \r\nhello\r\n0\r\n\r\n", "hello"),
		inChunks("chunks: tab after the size", "5\t\r\nhello\r\n0\r\n\r\n", "hello"),
	)
}

func trailers() []message {
	t := func(name, announced, lines string) message {
		return whole("trailer: "+name, chunked+announced, "5\r\nhello\r\n0\r\n"+lines+"\r\n", "hello")
	}
	return late(
		t("Content-Length, not announced", "", "Content-Length: 38\r\n"), t("announced", "Trailer: X-Sum\r\n", "X-Sum: 1\r\n"), t("not announced", "", "X-Sum: 1\r\n"),
		t("announced and missing", "Trailer: X-Sum\r\n", ""), t("several", "Trailer: X-A, X-B\r\n", "X-A: 1\r\nX-B: 2\r\nX-C: 3\r\n"),
		t("that looks like a request", "Trailer: X-Sum\r\n", "X-Sum: GET /smuggled HTTP/1.1\r\n"),
		t("empty value", "Trailer: X-Sum\r\n", "X-Sum:\r\n"), t("Content-Length", "Trailer: Content-Length\r\n", "Content-Length: 38\r\n"),
		t("Transfer-Encoding", "Trailer: Transfer-Encoding\r\n", "Transfer-Encoding: chunked\r\n"), t("Host", "Trailer: Host\r\n", "Host: y\r\n"),
		t("Connection", "Trailer: Connection\r\n", "Connection: close\r\n"),
		t("a key", "Trailer: Idempotency-Key\r\n", "Idempotency-Key: another\r\n"), t("Trailer with spaces", "Trailer: X Y\r\n", ""),
		t("a list with nothing in it", "Trailer: ,,\r\n", "X-Sum: 1\r\n"),
	)
}

// lookalikes are bodies that would be requests, if they were read as such.
func lookalikes() (all []message) {
	for name, body := range map[string]string{
		"request": smuggled, "request, CRLF first": "\r\n" + smuggled, "two": smuggled + smuggled, "one that swallows": swallower,
		"last chunk, then a request": "0\r\n\r\n" + smuggled, "request of LF": "GET /smuggled HTTP/1.1\nHost: x\n\n", "half of one": "GET /smuggled HTTP/1.1\r\nHost: x\r\nX: ",
		"response": "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "preface": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"chunked request":       "POST /smuggled HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"request, 64 KiB first": strings.Repeat("x", 64<<10) + smuggled,
	} {
		all = append(
			all,
			sized("lookalike: "+name, "", body),
			inChunks("lookalike in chunks: "+name, fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body), body),
		)
	}
	return all
}
