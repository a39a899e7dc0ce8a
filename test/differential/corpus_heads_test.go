package differential_test

import (
	"fmt"
	"slices"
	"strings"
)

func fields() []message {
	many := strings.Repeat("X-N: y\r\n", 60)
	return []message{
		field("accept", "Accept: */*"), field("cookie", "Cookie: a=1; b=2"), field("cookies in two lines", "Cookie: a=1\r\nCookie: b=2"),
		field("repeated", "X-A: 1\r\nX-B: 2\r\nX-A: 3"), field("empty", "X-Empty:"), field("long", "X-Long: "+strings.Repeat("z", 4000)),
		field("many", many+"X-Last: z"), field("spaces around", "X-Spaces:    a  b   "), field("tabs around", "X-Tabs:\ta\tb\t"),
		field("underscores", "X_Under: 1"), field("quoted", `X-Quoted: "a \" b", c`), field("a request as a value", "X-R: GET /smuggled HTTP/1.1"),
		field("close", "Connection: close"), field("keep-alive", "Connection: keep-alive\r\nKeep-Alive: timeout=1, max=1"),
		field("proxy connection", "Proxy-Connection: keep-alive"), field("max-forwards", "Max-Forwards: 3"), field("TE", "TE: trailers"),
		field("range", "Range: items=0-9"), field("if-none-match", `If-None-Match: "a"`), field("upgrade not nominated", "Upgrade: h2c"),
		field("forwarded", "X-Forwarded-For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\nVia: 1.0 a"),
	}
}

func oddFields() []message {
	return slices.Concat(odd(
		field("name of marks", "!#$%&'*+-.^_`|~: y"), field("name of one letter", "X: y"), field("name of digits", "1: y"),
		field("name like a length", "Content-Length-X: 3"), field("name like a length, underscore", "Content_Length: 38"),
		field("name like a coding, underscore", "Transfer_Encoding: chunked"), field("name like a host, underscore", "Ho_st: y"),
		field("method override", "X-HTTP-Method-Override: DELETE"), field("rewritten", "X-Original-URL: /smuggled\r\nX-Rewrite-URL: /smuggled"),
		field("8 bits", "X: \xe9\xff\x80"), field("UTF-8", "X: ü€"), field("next line of Latin-1", "X: a\x85b"), field("UTF-8 line separator", "X: a\u2028b"),
		field("form feed", "X: a\x0cb"), field("vertical tab", "X: a\x0bb"), field("file separator", "X: a\x1cb"), field("SOH", "X: a\x01b"),
		field("escape", "X: a\x1bb"), field("DEL", "X: a\x7fb"), field("backspace", "X: a\x08b"), field("ends in a form feed", "X: a\x0c"),
		field("begins with a vertical tab", "X: \x0ba"), field("colon first in the value", "X: : y"), field("only a colon", "X: :"),
		field("From", "From: a"), field("name that begins with From", "From-: a"), field("a non-breaking space", "X:\xa0y\xa0"),
		field("Connection nominates Host", "Connection: Host"), field("Connection nominates Connection", "Connection: Connection"),
		field("Connection nominates the key", "Connection: Idempotency-Key"), field("Connection is a list of nothing", "Connection: ,,,"),
		field("Connection, close among others", "Connection: X, close, y"), field("two Connections", "Connection: close\r\nConnection: keep-alive"),
		field("upgrade to h2c", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"),
		field("upgrade to something", "Connection: Upgrade\r\nUpgrade: something/1"),
		field("upgrade to TLS", "Connection: Upgrade\r\nUpgrade: TLS/1.0"),
	), odd(
		sized("upgrade with a body", "Connection: Upgrade\r\nUpgrade: something/1\r\n", smuggled),
		sized("upgrade to h2c with a body", "Connection: Upgrade\r\nUpgrade: h2c\r\n", smuggled),
		sized("body, length underscored before", "Content_Length: 3\r\n", smuggled),
		sized("body, coding underscored", "Transfer_Encoding: chunked\r\n", smuggled),
		sized("body, form feed in a field", "X: a\x0cb\r\n", smuggled), sized("body, vertical tab in a field", "X: a\x0bb\r\n", smuggled),
		sized("body, file separator in a field", "X: a\x1cContent-Length: 0\r\n", smuggled),
		sized("body, next line in a field", "X: a\x85Content-Length: 0\r\n", smuggled),
		sized("body, SOH in a field", "X: a\x01b\r\n", smuggled),
		sized("body, length in a value", "X: Content-Length: 0\r\n", smuggled), sized("body, TE field", "TE: chunked\r\n", smuggled),
		sized("body, name of marks", "!#$%&'*+-.^_`|~: y\r\n", smuggled), sized("body, Connection nominates all", "Connection: Host, Content-Length, Content-Type, X\r\n", smuggled),
		sized("body, Trailer without chunks", "Trailer: X-Sum\r\n", smuggled),
	))
}

// lines are request lines and versions.
func lines() []message {
	line := func(name, head string) message {
		return message{name: "line: " + name, text: head, means: []record{meaning("GET", "/p", "")}}
	}
	old := strings.Replace(post, "HTTP/1.1", "HTTP/1.0", 1)
	return odd(
		line("HTTP/1.0", "GET /p HTTP/1.0\r\n{k}\r\n"), line("HTTP/1.0 with a host", "GET /p HTTP/1.0\r\nHost: x\r\n{k}\r\n"),
		line("HTTP/1.0, kept", "GET /p HTTP/1.0\r\n{k}Connection: keep-alive\r\n\r\n"),
		line("HTTP/1.0, absolute", "GET http://x/p HTTP/1.0\r\n{k}\r\n"),
		message{name: "line: HTTP/1.0 with a body", text: old + "Content-Length: 38\r\n\r\n" + smuggled, means: []record{meaning("POST", "/p", smuggled)}},
		message{name: "line: HTTP/1.0 with a body, kept", text: old + "Connection: keep-alive\r\nContent-Length: 38\r\n\r\n" + smuggled, means: []record{meaning("POST", "/p", smuggled)}},
		line("empty line first", "\r\n"+get+"\r\n"), line("two empty lines first", "\r\n\r\n"+get+"\r\n"),
		line("LF first", "\n"+get+"\r\n"), line("host with a port", "GET /p HTTP/1.1\r\nHost: x:8080\r\n{k}\r\n"),
		line("IPv6 host", "GET /p HTTP/1.1\r\nHost: [::1]:80\r\n{k}\r\n"), line("host in capitals", "GET /p HTTP/1.1\r\nHOST: EXAMPLE\r\n{k}\r\n"),
		line("host with a dot", "GET /p HTTP/1.1\r\nHost: x.\r\n{k}\r\n"), line("host last", "GET /p HTTP/1.1\r\n{k}X: y\r\nHost: x\r\n\r\n"),
		line("host with an underscore", "GET /p HTTP/1.1\r\nHost: a_b\r\n{k}\r\n"), line("host with a bad port", "GET /p HTTP/1.1\r\nHost: x:y\r\n{k}\r\n"),
		line("host with an empty port", "GET /p HTTP/1.1\r\nHost: x:\r\n{k}\r\n"), line("host of marks", "GET /p HTTP/1.1\r\nHost: a!b$c&d'(e)*+;=f\r\n{k}\r\n"),
		line("host with a percent", "GET /p HTTP/1.1\r\nHost: a%20b\r\n{k}\r\n"), line("host of two dots", "GET /p HTTP/1.1\r\nHost: x..y\r\n{k}\r\n"),
	)
}

// pipelines are several requests at once.
func pipelines() []message {
	first, second := meaning("POST", "/p", smuggled), meaning("GET", "/second", "")
	next := "GET /second HTTP/1.1\r\nHost: x\r\n{k}\r\n"
	p := func(name, text string, means ...record) message {
		return message{name: "pipeline: " + name, text: text, means: means}
	}
	length := post + "Content-Length: 38\r\n\r\n" + smuggled
	chunk := post + chunked + "\r\n26\r\n" + smuggled + "\r\n0\r\n\r\n"
	return []message{
		p("two without bodies", get+"\r\n"+next, meaning("GET", "/p", ""), second), p("behind a body", length+next, first, second),
		p("behind chunks", chunk+next, first, second), p("three", length+chunk+next, first, first, second),
		p("chunks, then a length", chunk+length+next, first, first, second), p("behind no chunks", post+chunked+"\r\n0\r\n\r\n"+next, meaning("POST", "/p", ""), second),
		p("behind a length of 0", post+"Content-Length: 0\r\n\r\n"+next, meaning("POST", "/p", ""), second),
		p("behind HEAD", strings.Replace(get, "GET", "HEAD", 1)+"\r\n"+next, meaning("HEAD", "/p", ""), second),
		p("behind a trailer", post+chunked+"Trailer: X\r\n\r\n26\r\n"+smuggled+"\r\n0\r\nX: 1\r\n\r\n"+next, first, second),
		p("behind an empty line", length+"\r\n"+next, first, second), p("behind one that closes", get+"Connection: close\r\n\r\n"+smuggled, meaning("GET", "/p", "")),
		p("behind HTTP/1.0", "GET /p HTTP/1.0\r\n{k}\r\n"+smuggled, meaning("GET", "/p", "")),
		p("behind 64 KiB", post+"Content-Length: 65574\r\n\r\n"+strings.Repeat("x", 64<<10)+smuggled+next, meaning("POST", "/p", strings.Repeat("x", 64<<10)+smuggled), second),
		p("behind an upgrade", get+"Connection: Upgrade\r\nUpgrade: something/1\r\n\r\n"+next, meaning("GET", "/p", ""), second),
		p("good, then bad", length+get+"Content-Length: 1\r\nContent-Length: 2\r\n\r\n"+smuggled, first),
		p("five", strings.Repeat(next, 5), second, second, second, second, second),
	}
}

func expectations() []message {
	return odd(
		sized("expect: 100-continue", "Expect: 100-continue\r\n", smuggled), sized("expect: in capitals", "EXPECT: 100-CONTINUE\r\n", smuggled),
		sized("expect: something else", "Expect: a miracle\r\n", smuggled), sized("expect: twice", "Expect: 100-continue\r\nExpect: 100-continue\r\n", smuggled),
		whole("expect: no body", "Expect: 100-continue\r\nContent-Length: 0\r\n", "", ""),
		whole("expect: chunks", "Expect: 100-continue\r\n"+chunked, "26\r\n"+smuggled+"\r\n0\r\n\r\n", smuggled),
		field("expect for GET", "Expect: 100-continue"), sized("expect: nominated", "Expect: 100-continue\r\nConnection: Expect\r\n", smuggled),
		sized("expect: empty", "Expect:\r\n", smuggled),
	)
}

func cuts() []message {
	return []message{
		cut("cut: header", get), cut("cut: request line", "GET /p HT"), cut("cut: in a field", get+"X: y"), cut("cut: body", post+"Content-Length: 38\r\n\r\n"+smuggled[:37]),
		cut("cut: body, nothing of it", post+"Content-Length: 38\r\n\r\n"), cut("cut: size of a chunk", post+chunked+"\r\n26"),
		cut("cut: chunk", post+chunked+"\r\n27\r\n"+smuggled), cut("cut: end of a chunk", post+chunked+"\r\n26\r\n"+smuggled),
		cut("cut: last chunk", post+chunked+"\r\n26\r\n"+smuggled+"\r\n"), cut("cut: behind the last chunk", post+chunked+"\r\n26\r\n"+smuggled+"\r\n0\r\n"),
		cut("cut: in the last chunk", post+chunked+"\r\n26\r\n"+smuggled+"\r\n0"), cut("cut: in a trailer", post+chunked+"\r\n26\r\n"+smuggled+"\r\n0\r\nX: y"),
		cut("cut: large body", post+"Content-Length: 70000\r\n\r\n"+strings.Repeat("x", 69_999)),
	}
}

func badLengths() (all []message) {
	for _, value := range []string{
		"+5", "-5", "0x5", "5.0", "5, 5", "5,6", "", "5 5", `"5"`, "18446744073709551621", "5;a=b", "five", "５", "5\x0b", "\x0c5", "5_0", "1e1", "0 5", "-0", "+0",
	} {
		all = append(all, bad(fmt.Sprintf("bad length %q", value), post+"Content-Length: "+value+"\r\n\r\nhello"))
	}
	return append(
		all,
		bad("bad length: two equal", post+"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
		bad("bad length: two, 5 first", post+"Content-Length: 5\r\nContent-Length: 43\r\n\r\nhello"),
		bad("bad length: two, 0 first", post+"Content-Length: 0\r\nContent-Length: 38\r\n\r\n"),
		bad("bad length: two, apart", post+"Content-Length: 5\r\nX: y\r\ncontent-length: 0\r\n\r\nhello"),
		bad("bad length: space before the colon", post+"Content-Length : 5\r\n\r\nhello"),
		bad("bad length: tab before the colon", post+"Content-Length\t: 5\r\n\r\nhello"),
		bad("bad length: folded", post+"Content-Length:\r\n 5\r\n\r\nhello"),
		bad("bad length: folded behind another", post+"X: y\r\n Content-Length: 5\r\n\r\nhello"),
		bad("bad length: behind CR", post+"X: y\rContent-Length: 5\r\n\r\nhello"),
		bad("bad length: behind LF", post+"X: y\nContent-Length: 5\r\n\r\nhello"),
		bad("bad length: behind NUL", post+"X: y\x00Content-Length: 5\r\n\r\nhello"),
	)
}

func badCodings() (all []message) {
	end := "\r\n\r\n0\r\n\r\n"
	for _, value := range []string{
		"xchunked", "identity", "gzip, chunked", "chunked, identity", "chunked, chunked", "chunked, gzip", "", `"chunked"`, "\vchunked", "chunked;q=1", "chunke", "chunked,",
		", chunked", "chunked\x00", "chunked\x0c", "x", "cow", "chunked chunked", "identity, chunked",
	} {
		all = append(all, bad(fmt.Sprintf("bad coding %q", value), post+"Transfer-Encoding: "+value+end))
	}
	for _, two := range []string{
		"Content-Length: 5\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 5", "Content-Length: 43\r\nTransfer-Encoding: chunked",
		"Transfer-Encoding: chunked\r\nContent-Length: 43", "Content-Length: 0\r\nTransfer-Encoding: chunked", "Content-Length: 5\r\nTransfer-Encoding: identity",
		"Content-Length: 43\r\ntransfer-encoding: CHUNKED", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
		"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", "Transfer-Encoding : chunked", "Transfer-Encoding\t: chunked", "Transfer-Encoding:\r\n chunked",
		"Transfer-Encoding:\r\n\tchunked", "X: y\r\n Transfer-Encoding: chunked", "X: y\rTransfer-Encoding: chunked", "X: y\nTransfer-Encoding: chunked",
		" Transfer-Encoding: chunked", "Transfer-Encoding: chunked\nX: y", "Content-Length: 5\r\nTransfer-Encoding : chunked", "Content-Length: 43\nTransfer-Encoding: chunked",
		"Content-Length: 43\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x", "Content-Length: 43\r\nTransfer-Encoding:\vchunked",
		"Content-Length: 43\r\nTransfer-Encoding: xchunked", "Transfer-Encoding: chun\r\n ked",
	} {
		all = append(all, bad(fmt.Sprintf("bad coding: %q", two), post+two+end))
	}
	return append(all, bad("bad coding: HTTP/1.0", strings.Replace(post, "HTTP/1.1", "HTTP/1.0", 1)+"Transfer-Encoding: chunked"+end))
}

func badChunks() (all []message) {
	for _, body := range []string{
		"5;a\nb\r\nhello\r\n0\r\n\r\n", "5;a\rb\r\nhello\r\n0\r\n\r\n", "5\nhello\r\n0\r\n\r\n", "5\rhello\r\n0\r\n\r\n", "0x5\r\nhello\r\n0\r\n\r\n", "+5\r\nhello\r\n0\r\n\r\n",
		"-5\r\nhello\r\n0\r\n\r\n", "5g\r\nhello\r\n0\r\n\r\n", "\r\nhello\r\n0\r\n\r\n", " 5\r\nhello\r\n0\r\n\r\n", "10000000000000005\r\nhello\r\n0\r\n\r\n",
		"ffffffffffffffff\r\nhello\r\n0\r\n\r\n", "3\r\nhello\r\n0\r\n\r\n", "5\r\nhello0\r\n\r\n", "5\r\nhello\n0\r\n\r\n", "5\r\nhello\r0\r\n\r\n", "5\r\nhelloXX0\r\n\r\n",
		"5\r\nhello\r\n0\r\nnonsense\r\n\r\n", "5\r\nhello\r\n-0\r\n\r\n", "5\r\nhello\r\n0\r\nX : y\r\n\r\n", "5\r\nhello\r\n0\r\n X: y\r\n\r\n", "5\x00\r\nhello\r\n0\r\n\r\n",
		"5\r\nhello\r\n\r\n0\r\n\r\n", "5 5\r\nhello\r\n0\r\n\r\n", "5,5\r\nhello\r\n0\r\n\r\n", "５\r\nhello\r\n0\r\n\r\n",
		"5\r\nhello\r\n0\n\r\n", "5\r\nhello\r\n0\r\n\n", "5\r\nhello\r\n0\r\nX: y\n\r\n", "5\r\nhello\r\n0\r\nX\t: y\r\n\r\n", "5\r\nhello\r\n0\r\n: y\r\n\r\n",
		"5\r\nhello\r\n0\r\nX: y\rz\r\n\r\n", "5\r\nhello\r\n0\r\nX: y\x00z\r\n\r\n", "5\r\nhello\r\n0\r\nX Y: z\r\n\r\n", "5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n",
		"5\r\nhello\r\n0\r\nTransfer-Encoding : chunked\r\n\r\n", "5\r\nhello\r\n0\r\nContent-Length : 38\r\n\r\n", "5\r\nhello\r\n0\r\nX[0]: y\r\n\r\n",
		"5\r\nhello\r\n0\r\nX\x0b: y\r\n\r\n", "5\r\nhello\r\n0\r\n\xdc: y\r\n\r\n", "5\r\nhello\r\n0\r\nX: y\r\r\n\r\n", "5\r\nhello\r\n0\r\r\n\r\n",
		"7fffffffffffffff\r\nhello\r\n0\r\n\r\n", "80000000\r\nhello\r\n0\r\n\r\n", "fffffffffffffffb\r\nhello\r\n0\r\n\r\n", "100000005\r\nhello\r\n0\r\n\r\n",
	} {
		m := bad(fmt.Sprintf("bad chunks %q", body), post+chunked+"\r\n"+body)
		m.cut = true // begins well, and goes on while it is read
		all = append(all, m)
	}
	return all
}

func badHeads() []message {
	b := func(name, text string) message { return bad("bad head: "+name, text) }
	line := func(name, head string) message { return b(name, head+"\r\nHost: x\r\n{k}\r\n") }
	return []message{
		line("two spaces", "GET  /p HTTP/1.1"), line("tabs", "GET\t/p\tHTTP/1.1"), line("space in the target", "GET /p q HTTP/1.1"), line("space at the end", "GET /p HTTP/1.1 "),
		line("space first", " GET /p HTTP/1.1"), line("no slash", "GET p HTTP/1.1"), line("no target", "GET HTTP/1.1"), line("NUL in the target", "GET /p\x00 HTTP/1.1"),
		line("CR in the target", "GET /p\rX HTTP/1.1"), line("asterisk for GET", "GET * HTTP/1.1"), line("CONNECT", "CONNECT x:443 HTTP/1.1"), line("HTTP/1.2", "GET /p HTTP/1.2"),
		line("HTTP/2.0", "GET /p HTTP/2.0"), line("http/1.1", "GET /p http/1.1"), line("HTTP/1.10", "GET /p HTTP/1.10"), line("HTTP/01.1", "GET /p HTTP/01.1"),
		line("HTTP/1", "GET /p HTTP/1"), line("other host in the target", "GET http://y/p HTTP/1.1"), line("user in the target", "GET http://u@x/p HTTP/1.1"),
		line("fragment in the target", "GET http://x/#a HTTP/1.1"), line("ftp", "GET ftp://x/p HTTP/1.1"), line("method with a comma", "GE,T /p HTTP/1.1"),
		line("method with a colon", "GET: /p HTTP/1.1"), line("vertical tab for a space", "GET\v/p HTTP/1.1"),
		b("HTTP/0.9", "GET /p\r\n\r\n"), b("no host", "GET /p HTTP/1.1\r\n{k}\r\n"), b("empty host", "GET /p HTTP/1.1\r\nHost:\r\n{k}\r\n"), b("two hosts", get+"Host: y\r\n\r\n"),
		b("two equal hosts", get+"Host: x\r\n\r\n"), b("host with a path", "GET /p HTTP/1.1\r\nHost: x/y\r\n{k}\r\n"), b("host with a user", "GET /p HTTP/1.1\r\nHost: u@x\r\n{k}\r\n"),
		b("host with a space", "GET /p HTTP/1.1\r\nHost: x y\r\n{k}\r\n"), b("host list", "GET /p HTTP/1.1\r\nHost: x,y\r\n{k}\r\n"),
		b("no colon", get+"nonsense\r\n\r\n"), b("no name", get+": x\r\n\r\n"), b("space in a name", get+"X Y: z\r\n\r\n"), b("space before a colon", get+"X : y\r\n\r\n"),
		b("brackets in a name", get+"X[0]: y\r\n\r\n"), b("8 bits in a name", get+"\xdc: y\r\n\r\n"), b("NUL in a name", get+"X\x00: y\r\n\r\n"), b("NUL in a value", get+"X: y\x00z\r\n\r\n"),
		b("CR in a value", get+"X: y\rZ: z\r\n\r\n"), b("folded", get+"X: y\r\n z\r\n\r\n"), b("folded by a tab", get+"X: y\r\n\tz\r\n\r\n"),
		b("fold first", "GET /p HTTP/1.1\r\n Host: x\r\n{k}\r\n"), b("LF", "GET /p HTTP/1.1\r\nHost: x\n{k}X: y\r\n\r\n"), b("LF last", get+"X: y\n\r\n"), b("LF LF last", get+"X: y\n\n"),
		b("CR CR LF", get+"X: y\r\r\n\r\n"), b("LF for all", "GET /p HTTP/1.1\nHost: x\n\n"), b("CR for all", "GET /p HTTP/1.1\rHost: x\r\r"),
		b("preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), b("TLS", "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n"), b("response", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
		b("name with a vertical tab", get+"X\v: y\r\n\r\n"), b("From without a colon", get+"From a\r\n\r\n"), b("name in quotes", get+"\"X\": y\r\n\r\n"),
	}
}
