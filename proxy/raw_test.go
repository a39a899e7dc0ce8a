package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// raw is a request as bytes, and what must come of it.
type raw struct {
	name string
	text string // {k} stands for a key of its own
	// want are the statuses of the answers. With ! at the end, the last one says
	// Connection: close, and what follows on the connection is never read: the
	// test sends another request behind it, which must not reach the backend.
	want string
	// executions at the backend.
	executions int
}

const (
	get   = "GET / HTTP/1.1\r\nHost: x\r\n"
	post  = "POST /p HTTP/1.1\r\nHost: x\r\n"
	keyed = post + "Idempotency-Key: {k}\r\n"
	again = get + "\r\n"
)

func ofKey(fields ...string) string {
	return post + strings.Join(fields, "\r\n") + "\r\nContent-Length: 1\r\n\r\nx"
}

func chunked(body string) string { return keyed + "Transfer-Encoding: chunked\r\n\r\n" + body }

// rawKeys: which keys are taken, and that none becomes another one.
func rawKeys() []raw {
	return []raw{
		{"no key", post + "Content-Length: 1\r\n\r\nx", "200", 1},
		{"one character", ofKey("Idempotency-Key: {k}"), "200", 1},
		{"255 characters", ofKey("Idempotency-Key: {k}" + strings.Repeat("k", 255-8)), "200", 1},
		{"256 characters", ofKey("Idempotency-Key: {k}" + strings.Repeat("k", 256-8)), "400", 0},
		{"empty", ofKey("Idempotency-Key:"), "400", 0},
		{"only spaces", ofKey("Idempotency-Key:    "), "400", 0},
		{"empty in quotes", ofKey(`Idempotency-Key: ""`), "400", 0},
		{"spaces around", ofKey("Idempotency-Key:   {k}  "), "200", 1},
		{"comma", ofKey("Idempotency-Key: {k},b"), "200", 1},
		{"quote inside", ofKey(`Idempotency-Key: {k}"b`), "200", 1},
		{"braces", ofKey("Idempotency-Key: {{k}}"), "200", 1},
		{"star", ofKey("Idempotency-Key: *{k}"), "200", 1},
		{"percent", ofKey("Idempotency-Key: {k}%0a"), "200", 1},
		{"space inside", ofKey("Idempotency-Key: {k} b"), "200", 1},
		{"tab inside", ofKey("Idempotency-Key: {k}\tb"), "400", 0},
		{"DEL", ofKey("Idempotency-Key: {k}\x7f"), "400!", 0},
		{"ESC", ofKey("Idempotency-Key: {k}\x1b"), "400!", 0},
		{"NUL", ofKey("Idempotency-Key: {k}\x00"), "400!", 0},
		{"UTF-8", ofKey("Idempotency-Key: {k}ü"), "400", 0},
		{"Latin-1", ofKey("Idempotency-Key: {k}\xfc"), "400", 0},
		{"quoted", ofKey(`Idempotency-Key: "{k}"`), "200", 1},
		{"quoted, parameters", ofKey(`Idempotency-Key: "{k}";v=1`), "200", 1},
		{"quote not closed", ofKey(`Idempotency-Key: "{k}`), "400", 0},
		{"quote closed early", ofKey(`Idempotency-Key: "{k}"x`), "400", 0},
		{"quoted, bad escape", ofKey(`Idempotency-Key: "{k}\n"`), "400", 0},
		{"quoted list", ofKey(`Idempotency-Key: "{k}", "b"`), "400", 0},
		{"both spellings, equal", ofKey("Idempotency-Key: {k}", "X-Idempotency-Key: {k}"), "200", 1},
		{"both spellings, one quoted", ofKey(`Idempotency-Key: "{k}"`, "X-Idempotency-Key: {k}"), "200", 1},
		{"both spellings, different", ofKey("Idempotency-Key: {k}", "X-Idempotency-Key: {k}2"), "400", 0},
		{"two lines, equal", ofKey("Idempotency-Key: {k}", "Idempotency-Key: {k}"), "200", 1},
		{"two lines, different", ofKey("Idempotency-Key: {k}", "Idempotency-Key: {k}2"), "400", 0},
		{"three lines, the last different", ofKey("Idempotency-Key: {k}", "Idempotency-Key: {k}", "Idempotency-Key: b"), "400", 0},
		{"one empty, one not", ofKey("Idempotency-Key: {k}", "X-Idempotency-Key:"), "400", 0},
		{"two lines joined", ofKey("Idempotency-Key: {k}, {k}") + ofKey("Idempotency-Key: {k}"), "200 200", 1},
		{"name in capitals", ofKey("IDEMPOTENCY-KEY: {k}"), "200", 1},
		{"nominated by Connection", ofKey("Idempotency-Key: {k}", "Connection: Idempotency-Key"), "200", 1},
		{"underscores are another field", ofKey("Idempotency_Key: {k}"), "200", 1},
		{"Prefer", ofKey("Idempotency-Key: {k}", "Prefer: wait=soon"), "200", 1},
		{"twice on one connection", ofKey("Idempotency-Key: {k}") + ofKey("Idempotency-Key: {k}"), "200 200", 1},
		{"twice, another body", keyed + "Content-Length: 1\r\n\r\nx" + keyed + "Content-Length: 1\r\n\r\ny", "200 422", 1},
		{"twice, another target", keyed + "\r\n" + strings.Replace(keyed, "/p", "/q", 1) + "\r\n", "200 422", 1},
		{"twice, another host", keyed + "\r\n" + strings.Replace(keyed, "Host: ", "Host: other.", 1) + "\r\n", "200 422", 1},
		{"twice, another method", keyed + "\r\n" + strings.Replace(keyed, "POST", "PUT", 1) + "\r\n", "200 422", 1},
		{"twice, another caller", keyed + "\r\n" + keyed + "Authorization: b\r\n\r\n", "200 422", 1},
		{"CL and chunked are one payload", keyed + "Content-Length: 2\r\n\r\nxy" + chunked("1\r\nx\r\n1\r\ny\r\n0\r\n\r\n"), "200 200", 1},
	}
}

// rawLengths: where a request ends.
func rawLengths() []raw {
	te := func(values ...string) string {
		return keyed + "Transfer-Encoding:" + strings.Join(values, "\r\nTransfer-Encoding:") + "\r\n\r\n1\r\nx\r\n0\r\n\r\n"
	}
	length := func(values ...string) string {
		return keyed + "Content-Length:" + strings.Join(values, "\r\nContent-Length:") + "\r\n\r\nhello"
	}
	return []raw{
		{"CL", length(" 5"), "200", 1},
		{"CL 0", keyed + "Content-Length: 0\r\n\r\n", "200", 1},
		{"CL with zeros in front", length(" 005"), "200", 1},
		{"CL, tab", length("\t5"), "200", 1},
		{"CL +5", length(" +5"), "400!", 0},
		{"CL -5", length(" -5"), "400!", 0},
		{"CL 0x5", length(" 0x5"), "400!", 0},
		{"CL 5.0", length(" 5.0"), "400!", 0},
		{"CL 5,5", length(" 5, 5"), "400!", 0},
		{"CL empty", length(""), "400!", 0},
		{"CL 5 5", length(" 5 5"), "400!", 0},
		{"CL in quotes", length(` "5"`), "400!", 0},
		{"CL of 64 bits and more", length(" 18446744073709551621"), "400!", 0},
		{"CL of 63 bits, cut short", length(" 9223372036854775807"), "400!", 0},
		{"CL twice, equal", length(" 5", " 5"), "400!", 0},
		{"CL twice, different", length(" 5", " 6"), "400!", 0},
		{"CL in two spellings", keyed + "Content-Length: 5\r\ncontent-length: 6\r\n\r\nhello", "400!", 0},
		{"CL too long", keyed + "Content-Length: 9\r\n\r\nhello", "400", 0},
		{"CL over the limit", keyed + "Content-Length: 2000000\r\n\r\n" + strings.Repeat("x", 2_000_000), "413!", 0},
		{"CL then TE", keyed + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400!", 0},
		{"TE then CL", keyed + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "400!", 0},
		{"TE then CL, without a key", post + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "400!", 0},
		{"TE and CL 0", keyed + "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400!", 0},
		{"TE chunked", te(" chunked"), "200", 1},
		{"TE Chunked", te(" Chunked"), "200", 1},
		{"TE, no space", te("chunked"), "200", 1},
		{"TE, tab", te("\tchunked\t"), "200", 1},
		{"TE xchunked", te(" xchunked"), "400!", 0},
		{"TE identity", te(" identity"), "400!", 0},
		{"TE identity with CL", keyed + "Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello", "400!", 0},
		{"TE chunked, identity", te(" chunked, identity"), "400!", 0},
		{"TE gzip, chunked", te(" gzip, chunked"), "400!", 0},
		{"TE chunked twice", te(" chunked", " chunked"), "400!", 0},
		{"TE chunked, then identity", te(" chunked", " identity"), "400!", 0},
		{"TE identity, then chunked", te(" identity", " chunked"), "400!", 0},
		{"TE empty", te(""), "400!", 0},
		{"TE in quotes", te(` "chunked"`), "400!", 0},
		{"TE with a vertical tab", te(" \vchunked"), "400!", 0},
		{"TE, HTTP/1.0", strings.Replace(te(" chunked"), "HTTP/1.1", "HTTP/1.0", 1), "400!", 0},
		{"TE with space before the colon", keyed + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", "400!", 0},
		{"TE folded", keyed + "X: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400!", 0},
		{"TE value folded", keyed + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", "400!", 0},
		{"GET with a body", get + "Content-Length: 5\r\n\r\nhello", "200", 1},
		{"pipelined pair", again + again, "200 200", 2},
		{"pipelined behind a body", keyed + "Content-Length: 5\r\n\r\nhello" + again, "200 200", 2},
		{"pipelined behind chunks", chunked("5\r\nhello\r\n0\r\n\r\n") + again, "200 200", 2},
		{"a request inside a body", keyed + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(again)) + again, "200", 1},
		{"Expect", keyed + "Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", "100 200", 1},
		{"Expect something else", keyed + "Expect: a miracle\r\nContent-Length: 5\r\n\r\nhello", "200", 1},
	}
}

// rawChunks: what is inside a chunked body. A connection whose chunks cannot be
// read is closed.
func rawChunks() []raw {
	return []raw{
		{"no chunk", chunked("0\r\n\r\n"), "200", 1},
		{"two chunks", chunked("2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"), "200", 1},
		{"capital hex", chunked("A\r\n0123456789\r\n0\r\n\r\n"), "200", 1},
		{"zeros in front", chunked("005\r\nhello\r\n0\r\n\r\n"), "200", 1},
		{"extension", chunked("5;a=b\r\nhello\r\n0\r\n\r\n"), "200", 1},
		{"extension of the last", chunked("5\r\nhello\r\n0;a\r\n\r\n"), "200", 1},
		{"LF in an extension", chunked("5;a\nb\r\nhello\r\n0\r\n\r\n"), "400!", 0},
		{"CR in an extension", chunked("5;a\rb\r\nhello\r\n0\r\n\r\n"), "400!", 0},
		{"size ends in LF", chunked("5\nhello\r\n0\r\n\r\n"), "400!", 0},
		{"size ends in CR", chunked("5\rhello\r\n0\r\n\r\n"), "400!", 0},
		{"size 0x5", chunked("0x5\r\nhello\r\n0\r\n\r\n"), "400!", 0},
		{"size +5", chunked("+5\r\nhello\r\n0\r\n\r\n"), "400!", 0},
		{"size -5", chunked("-5\r\nhello\r\n0\r\n\r\n"), "400!", 0},
		{"size 5g", chunked("5g\r\nhello\r\n0\r\n\r\n"), "400!", 0},
		{"size empty", chunked("\r\nhello\r\n0\r\n\r\n"), "400!", 0},
		{"space before the size", chunked(" 5\r\nhello\r\n0\r\n\r\n"), "400!", 0},
		{"size of 65 bits", chunked("10000000000000005\r\nhello\r\n0\r\n\r\n"), "400!", 0},
		{"size of 64 bits", chunked("ffffffffffffffff\r\nhello\r\n0\r\n\r\n"), "400!", 0},
		{"chunk longer than its size", chunked("3\r\nhello\r\n0\r\n\r\n"), "400!", 0},
		{"chunk without its CRLF", chunked("5\r\nhello0\r\n\r\n"), "400!", 0},
		{"chunk ends in LF", chunked("5\r\nhello\n0\r\n\r\n"), "400!", 0},
		{"no last chunk", chunked("5\r\nhello\r\n"), "400", 0},
		{"cut inside a chunk", chunked("5\r\nhel"), "400", 0},
		{"cut inside a size", chunked("5"), "400", 0},
		{"no end of trailers", chunked("5\r\nhello\r\n0\r\n"), "400", 0},
		{"trailer", chunked("5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n") + again, "200 200", 2},
		{"trailer Content-Length", chunked("5\r\nhello\r\n0\r\nContent-Length: 7\r\n\r\n"), "400!", 0},
		{"trailer Transfer-Encoding", chunked("5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n"), "400!", 0},
		{"trailer Host", chunked("5\r\nhello\r\n0\r\nHost: y\r\n\r\n"), "400!", 0},
		{"trailer without colon", chunked("5\r\nhello\r\n0\r\nnonsense\r\n\r\n"), "400!", 0},
		{"last chunk ends in LF", chunked("5\r\nhello\r\n0\n\r\n"), "400!", 0},
		{"trailers end in LF", chunked("5\r\nhello\r\n0\r\n\n"), "400!", 0},
		{"trailer ends in LF", chunked("5\r\nhello\r\n0\r\nX: y\n\r\n"), "400!", 0},
		{"trailer, folded", chunked("5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n"), "400!", 0},
		{"trailer, fold in front", chunked("5\r\nhello\r\n0\r\n X: y\r\n\r\n"), "400!", 0},
		{"trailer, space before the colon", chunked("5\r\nhello\r\n0\r\nX : y\r\n\r\n"), "400!", 0},
		{"trailer, space in the name", chunked("5\r\nhello\r\n0\r\nX Y: y\r\n\r\n"), "400!", 0},
		{"trailer, no name", chunked("5\r\nhello\r\n0\r\n: y\r\n\r\n"), "400!", 0},
		{"extension that does not end", chunked("5;" + strings.Repeat("x", 64<<10) + "\r\nhello\r\n0\r\n\r\n"), "400!", 0},
		{"space behind the size", chunked("5 \r\nhello\r\n0\r\n\r\n"), "400!", 0},
		{"over the limit", chunked("1e8480\r\n" + strings.Repeat("x", 2_000_000) + "\r\n0\r\n\r\n"), "413!", 0},
	}
}

// rawHeaders: request lines and fields.
func rawHeaders() []raw {
	line := func(s string) string { return s + "\r\nHost: x\r\n\r\n" }
	field := func(s string) string { return get + s + "\r\n\r\n" }
	return []raw{
		{"GET", line("GET / HTTP/1.1"), "200", 1},
		{"own method", line("BREW /pot HTTP/1.1"), "200", 1},
		{"method in small letters", line("get / HTTP/1.1"), "200", 1},
		{"method with a comma", line("GE,T / HTTP/1.1"), "400!", 0},
		{"no method", line(" / HTTP/1.1"), "400!", 0},
		{"space in front", line(" GET / HTTP/1.1"), "400!", 0},
		{"CONNECT", line("CONNECT x:443 HTTP/1.1"), "501!", 0},
		{"two spaces", line("GET  / HTTP/1.1"), "400!", 0},
		{"tab for space", line("GET\t/\tHTTP/1.1"), "400!", 0},
		{"space in the target", line("GET /a b HTTP/1.1"), "400!", 0},
		{"space at the end", line("GET / HTTP/1.1 "), "400!", 0},
		{"target without slash", line("GET a HTTP/1.1"), "400!", 0},
		{"NUL in the target", line("GET /\x00 HTTP/1.1"), "400!", 0},
		{"CR in the target", line("GET /\rX HTTP/1.1"), "400!", 0},
		{"star", line("OPTIONS * HTTP/1.1"), "200", 1},
		{"star for GET", line("GET * HTTP/1.1"), "400!", 0},
		{"HTTP/0.9", "GET /\r\n\r\n", "400!", 0},
		{"HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", "200", 1},
		{"HTTP/1.0, kept", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + again, "200 200", 2},
		{"HTTP/1.2", line("GET / HTTP/1.2"), "505!", 0},
		{"HTTP/2.0", line("GET / HTTP/2.0"), "505!", 0},
		{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400!", 0},
		{"http/1.1", line("GET / http/1.1"), "400!", 0},
		{"HTTP/1.10", line("GET / HTTP/1.10"), "400!", 0},
		{"TLS", "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n", "400!", 0},
		{"empty line in front", "\r\n" + again, "200", 1},
		{"absolute form", line("GET http://x/a HTTP/1.1"), "200", 1},
		{"absolute form, capitals", line("GET HTTP://X/a HTTP/1.1"), "200", 1},
		{"absolute form without path", line("GET http://x?q HTTP/1.1"), "200", 1},
		{"absolute form, another host", line("GET http://y/a HTTP/1.1"), "400!", 0},
		{"absolute form, another port", line("GET http://x:81/a HTTP/1.1"), "400!", 0},
		{"absolute form, fragment", line("GET http://x#a HTTP/1.1"), "400!", 0},
		{"absolute form, user", line("GET http://u@x/a HTTP/1.1"), "400!", 0},
		{"absolute form, no host", line("GET http:///a HTTP/1.1"), "400!", 0},
		{"absolute form, ftp", line("GET ftp://x/a HTTP/1.1"), "400!", 0},
		{"absolute form, ftp, HTTP/1.0", "GET ftp://x/a HTTP/1.0\r\n\r\n", "400!", 0},
		{"absolute form, user, HTTP/1.0", "GET http://u@x/a HTTP/1.0\r\n\r\n", "400!", 0},
		{"absolute form, HTTP/1.0", "GET http://x/a HTTP/1.0\r\n\r\n", "200", 1},
		{"one operation in two forms", strings.Replace(keyed, "/p", "http://x/p", 1) + "\r\n" + keyed + "\r\n", "200 200", 1},
		{"no Host", "GET / HTTP/1.1\r\n\r\n", "400!", 0},
		{"empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "400!", 0},
		{"two Hosts", field("Host: y"), "400!", 0},
		{"two equal Hosts", field("Host: x"), "400!", 0},
		{"Host with a path", "GET / HTTP/1.1\r\nHost: x/y\r\n\r\n", "400!", 0},
		{"Host with a user", "GET / HTTP/1.1\r\nHost: u@x\r\n\r\n", "400!", 0},
		{"Host with a space", "GET / HTTP/1.1\r\nHost: x y\r\n\r\n", "400!", 0},
		{"Host list", "GET / HTTP/1.1\r\nHost: x,y\r\n\r\n", "400!", 0},
		{"Host IPv6", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "200", 1},
		{"field without colon", field("nonsense"), "400!", 0},
		{"field without name", field(": x"), "400!", 0},
		{"space in a name", field("X Y: z"), "400!", 0},
		{"space before the colon", field("X : y"), "400!", 0},
		{"tab before the colon", field("X\t: y"), "400!", 0},
		{"name with brackets", field("X[0]: y"), "400!", 0},
		{"name in UTF-8", field("Ü: y"), "400!", 0},
		{"NUL in a name", field("X\x00: y"), "400!", 0},
		{"NUL in a value", field("X: y\x00z"), "400!", 0},
		{"CR in a value", field("X: y\rZ: z"), "400!", 0},
		{"8 bits in a value", field("X: \xe9"), "200", 1},
		{"empty value", field("X:"), "200", 1},
		{"folded value", field("X: y\r\n z"), "400!", 0},
		{"folded by tab", field("X: y\r\n\tz"), "400!", 0},
		{"fold in front", "GET / HTTP/1.1\r\n Host: x\r\n\r\n", "400!", 0},
		{"line ends in LF", "GET / HTTP/1.1\r\nHost: x\nX: y\r\n\r\n", "400!", 0},
		{"last line ends in LF", "GET / HTTP/1.1\r\nHost: x\n\r\n", "400!", 0},
		{"LF for all CRLF of the header", "GET / HTTP/1.1\nHost: x\n\n", "400!", 0},
		{"request line ends in LF", "GET / HTTP/1.1\nHost: x\r\n\r\n", "400!", 0},
		{"request line of the second ends in LF", again + "GET / HTTP/1.1\nHost: x\r\n\r\n", "200 400!", 1},
		{"request line behind an upgrade ends in LF", get + "Upgrade: a\r\n\r\n" + "GET / HTTP/1.1\nHost: x\r\n\r\n", "200 400!", 1},
		{"pipelined behind an upgrade that is none", get + "Connection: Upgrade\r\nUpgrade: a\r\n\r\n" + again + again, "200 200 200", 3},
		{"header ends in LF", "GET / HTTP/1.1\r\nHost: x\r\n\n", "400!", 0},
		{"line ends in CR CR LF", "GET / HTTP/1.1\r\nHost: x\r\r\n\r\n", "400!", 0},
		{"header over the limit", field("X: " + strings.Repeat("x", 32<<10)), "431!", 0},
		{"many fields over the limit", field(strings.Repeat("X: y\r\n", 8<<10) + "Z: z"), "431!", 0},
		{"target over the limit", line("GET /" + strings.Repeat("x", 32<<10) + " HTTP/1.1"), "431!", 0},
		{"header without end", get, "400", 0},
		{"Connection: close", get + "Connection: close\r\n\r\n", "200!", 1},
		{"Upgrade", get + "Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n", "200", 1},
		{"Idempotency-Attempt is ours", keyed + "Idempotency-Attempt: 9\r\n\r\n", "200", 1},
	}
}

// withoutKey are the same requests without a key, which stream: the backend may have
// the beginning of one that is refused in the end, but never all of it. Their bodies
// have no limit.
func withoutKey(all []raw) (bare []raw) {
	for _, c := range all {
		if c.text = strings.ReplaceAll(c.text, "Idempotency-Key: {k}\r\n", ""); c.name != "over the limit" {
			bare = append(bare, c)
		}
	}
	return bare
}

func allRaw() []raw { return slices.Concat(rawKeys(), rawLengths(), rawChunks(), rawHeaders()) }

// TestRawRequests sends each of them over a connection of its own.
func TestRawRequests(t *testing.T) {
	t.Parallel()
	for group, cases := range map[string][]raw{
		"chunks without a key": withoutKey(rawChunks()), "keys": rawKeys(), "lengths": rawLengths(), "chunks": rawChunks(), "headers": rawHeaders(),
	} {
		for i, c := range cases {
			t.Run(group+"/"+c.name, func(t *testing.T) {
				t.Parallel()
				c.run(t, fmt.Sprintf("%.3s-%04d", group, i))
			})
		}
	}
}

const smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"

func (c *raw) run(t *testing.T, key string) {
	var smuggling atomic.Bool
	r := newRig(t, func(conn backendtest.Conn, q *backendtest.Request) {
		if q.URL.Path == "/smuggled" {
			smuggling.Store(true)
		}
		backendtest.OK(conn, q)
	}, func(c *proxy.Config) { c.MaxRequestBody = 1 << 20 })
	want, closes := strings.CutSuffix(c.want, "!")
	text := strings.ReplaceAll(c.text, "{k}", key)
	if closes {
		text += smuggled
	}
	got, last := r.converse(text)
	if got != want {
		t.Errorf("answered %s, want %s", got, want)
	}
	if n := r.backend.Total(); n != c.executions {
		t.Errorf("%d executions, want %d", n, c.executions)
	}
	if smuggling.Load() {
		t.Error("what came behind it reached the backend")
	}
	if closes && (last == nil || !last.Close) {
		t.Error("the answer does not say Connection: close")
	}
	if last != nil && last.StatusCode >= 400 && last.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("the refusal is %q, not a problem", last.Header.Get("Content-Type"))
	}
}

// Who announces more than will ever be read is told at once, and not after an
// hour of waiting for it.
func TestHugeLengthIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, backendtest.OK)
	conn := r.dial(strings.ReplaceAll(keyed, "{k}", "k") + "Content-Length: 9223372036854775807\r\n\r\n" +
		strings.Repeat("x", 8<<10)) // fasthttp hands a request over when it has that much
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge || !resp.Close {
		t.Errorf("got %d, to be closed: %v", resp.StatusCode, resp.Close)
	}
}

// converse sends text, and the end of all requests behind it, and reads answers
// until the proxy has no more.
func (r *rig) converse(text string) (statuses string, last *http.Response) {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	go func() { // the proxy may close before it has read all
		_, _ = io.WriteString(conn, text)
		_ = conn.(*net.TCPConn).CloseWrite() //nolint:forcetypeassert // we dialled TCP
	}()
	var all []string
	for br := bufio.NewReader(conn); ; {
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
				r.t.Logf("the connection ended with: %v", err)
			}
			return strings.Join(all, " "), last
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		all, last = append(all, fmt.Sprint(resp.StatusCode)), resp
	}
}
