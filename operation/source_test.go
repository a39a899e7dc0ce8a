package operation_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/message"
	"github.com/idemproxy/idemproxy/operation"
)

// askedOf is a request; header are its further lines.
func askedOf(t testing.TB, method, target, contentType, body string, header ...string) *operation.Asked {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n", method, target, len(body))
	if contentType != "" {
		b.WriteString("Content-Type: " + contentType + "\r\n")
	}
	for _, line := range header {
		b.WriteString(line + "\r\n")
	}
	var h fasthttp.RequestHeader
	h.DisableNormalizing()
	if err := h.Read(bufio.NewReaderSize(strings.NewReader(b.String()+"\r\n"), 1<<16)); err != nil {
		t.Fatal(err)
	}
	head := new(message.Head)
	head.Read(&h)
	return &operation.Asked{Head: head, Host: []byte("a"), Target: []byte(target), Body: []byte(body), Most: 1 << 20}
}

func zipped(body string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(body))
	_ = w.Close()
	return b.String()
}

const (
	jsonType = "application/json"
	formType = "application/x-www-form-urlencoded"
	parts    = "multipart/form-data; boundary=b"
)

// Where the key is, and what becomes of what is none: a stated answer for each.
func TestSources(t *testing.T) {
	t.Parallel()
	graphQL := func(document, rest string) string { return fmt.Sprintf(`{"query":%q%s}`, document, rest) }
	inURL := func(name, value string) string { return "/?" + name + "=" + url.QueryEscape(value) }
	for _, c := range []struct {
		sources                         string
		method, target, mediaType, body string
		header                          string
		want                            string // the key, or "" for none
		err                             error
	}{
		{sources: "header:X-Op", header: "x-op: 7", want: "7"},
		{sources: "header:X-Op", header: `X-Op: "7"`, want: "7"},
		{sources: "header:X-Op", header: "X-Op: 7\r\nX-Op: 8", err: operation.ErrKeysDiffer},
		{sources: "header:X-Op", header: "X-Op:", err: idem.ErrKeyEmpty},
		{sources: "query:id", target: "/a?id=7&x=1", want: "7"},
		{sources: "query:id", target: "/a?i%64=a+b%21", want: "a b!"},
		{sources: "query:id", target: "/a?id=7&id=7", want: "7"},
		{sources: "query:id", target: "/a?id=7&id=8", err: operation.ErrKeysDiffer},
		{sources: "query:id", target: "/a?id=%zz", err: operation.ErrKeyValue},
		{sources: "query:id", target: "/a?x=%zz&id=1", want: "1"},
		{sources: "query:id", target: "/a"},
		{sources: "query:id", target: "/a?id=", err: idem.ErrKeyEmpty},
		{sources: "query:id", target: "/a?id=%00", err: idem.ErrKeyChars},
		{sources: "path:2", target: "/orders/o%2D7?x", want: "o-7"},
		{sources: "path:2", target: "/orders/"},
		{sources: "path:2", target: "/orders"},
		{sources: "path:2", method: "OPTIONS", target: "*"},
		{sources: "path:1", method: "OPTIONS", target: "*"},
		// As routes read such targets, if they take them.
		{sources: "path:2", target: "//orders//o-7", want: "o-7"},
		{sources: "path:2", target: "/./orders/%2e/o-7/", want: "o-7"},
		{sources: "path:2", target: "/x/../orders/y/%2E./o-7", want: "o-7"},
		{sources: "path:2", target: "/../orders/o-7", want: "o-7"},
		{sources: "path:2", target: "/orders/o-7/.."},
		{sources: "path:2", target: "/orders/...", want: "..."},
		{sources: "path:2", target: "/orders/%zz", err: operation.ErrKeyValue},
		{sources: "path:2", target: "/%zz/o-7", want: "o-7"},
		{sources: "json:/order/id", mediaType: jsonType, body: `{"a":[1],"order":{"x":{"id":9},"id":"o-7"}}`, want: "o-7"},
		{sources: "json:/order/id", mediaType: "application/vnd.x+json; charset=utf-8", body: `{"order":{"id":"o-7"}}`, want: "o-7"},
		{sources: "json:/order/id", body: `{"order":{"id":"no type"}}`, want: "no type"},
		{sources: "json:/order/id", mediaType: "text/plain", body: `{"order":{"id":"o-7"}}`},
		{sources: "json:/id", mediaType: jsonType, body: "\xef\xbb\xbf" + `{"id":"after a byte order mark"}`, want: "after a byte order mark"},
		{sources: "json:/id", mediaType: jsonType, body: `{"id":70.0e-1}`, want: "7"},
		{sources: "json:/id", mediaType: jsonType, body: `{"id":123456789012345678901234567890}`, want: "123456789012345678901234567890"},
		{sources: "json:/id", mediaType: jsonType, body: `{"id":1000}`, want: "1000"},
		{sources: "json:/id", mediaType: jsonType, body: `{"id":1.0e3}`, want: "1000"},
		{sources: "json:/id", mediaType: jsonType, body: `{"id":-10}`, want: "-10"},
		{sources: "json:/id", mediaType: jsonType, body: `{"id":0}`, want: "0"},
		{sources: "json:/id", mediaType: jsonType, body: `{"id":-0.0}`, want: "-0"},
		{sources: "json:/id", mediaType: jsonType, body: `{"id":12.50}`, want: "12.5"},
		{sources: "json:/id", mediaType: jsonType, body: `{"id":5e-3}`, want: "0.005"},
		{sources: "json:/id", mediaType: jsonType, body: `{"id":1E+300}`, want: "1e300"},
		{sources: "json:/id", mediaType: jsonType, body: `{"id":1e-300}`, want: "1e-300"},
		{sources: "json:/id", mediaType: jsonType, body: `{"id":1e1000000000000000000000}`, want: "1e1000000000000000000000"},
		{sources: "json:/a+json:/b", mediaType: jsonType, body: `{"a":100,"b":20}`, want: "100+20"},
		{sources: "json:/id", mediaType: jsonType, body: `{"id":null}`},
		{sources: "json:/id", mediaType: jsonType, body: `{"ID":"7"}`},
		{sources: "json:/id", mediaType: jsonType, body: `7`},
		{sources: "json:/id", mediaType: jsonType, body: `{"id":{}}`, err: operation.ErrKeyValue},
		{sources: "json:/id", mediaType: jsonType, body: `{"id":["7"]}`, err: operation.ErrKeyValue},
		{sources: "json:/id", mediaType: jsonType, body: `{"id":true}`, err: operation.ErrKeyValue},
		{sources: "json:/id", mediaType: jsonType, body: `{"id":""}`, err: idem.ErrKeyEmpty},
		{sources: "json:/id", mediaType: jsonType, body: `{"id":"` + strings.Repeat("x", 1<<20) + `"}`, err: idem.ErrKeyTooLong},
		{sources: "json:/id", mediaType: jsonType, body: `{"id":"é"}`, err: idem.ErrKeyChars},
		{sources: "json:/id", mediaType: jsonType, body: `{"i\u0064":"\u0037"}`, want: "7"},
		{sources: "json:/id", mediaType: jsonType, body: `{"id":"7","id":"8"}`, err: operation.ErrUnreadable},
		{sources: "json:/id", mediaType: jsonType, body: `{"id":"7","x":{"y":1,"y":2}}`, err: operation.ErrUnreadable},
		{sources: "json:/id", mediaType: jsonType, body: `{"id":"7"`, err: operation.ErrUnreadable},
		{sources: "json:/id", mediaType: jsonType, body: `{"id":"7"}{}`, err: operation.ErrUnreadable},
		{sources: "json:/id", mediaType: jsonType, body: `7 8`, err: operation.ErrUnreadable},
		{sources: "json:/id", mediaType: jsonType, body: `{"id":"\ud800"}`, err: operation.ErrUnreadable},
		{sources: "json:/id", mediaType: jsonType, body: "{\x00\"\x00i\x00d\x00\"\x00:\x007\x00}\x00", err: operation.ErrUnreadable},
		{sources: "json:/id", mediaType: jsonType, body: "  ", err: operation.ErrUnreadable},
		{sources: "json:/id", mediaType: jsonType, body: strings.Repeat("[", 100_000), err: operation.ErrUnreadable},
		{sources: "json:/id", mediaType: jsonType, body: `{"x":` + strings.Repeat("[", 9_000) + strings.Repeat("]", 9_000) + `,"id":"7"}`, want: "7"},
		{sources: "json:/id", mediaType: jsonType, body: ``},
		{sources: "json:/1/id", mediaType: jsonType, body: `[{"id":"6"},{"id":"7"}]`, want: "7"},
		{sources: "json:/01/id", mediaType: jsonType, body: `[{"id":"6"},{"id":"7"}]`},
		{sources: "json:/-", mediaType: jsonType, body: `["6"]`},
		{sources: "json:/a~1b/~0", mediaType: jsonType, body: `{"a/b":{"~":"7"}}`, want: "7"},
		{sources: "json:#/a%2Cb", mediaType: jsonType, body: `{"a,b":"7"}`, want: "7"},
		{sources: "json:/id", mediaType: jsonType, body: zipped(`{"id":"7"}`), header: "Content-Encoding: gzip", want: "7"},
		{sources: "json:/id", mediaType: jsonType, body: zipped(zipped(`{"id":"7"}`)), header: "Content-Encoding: gzip, x-gzip", want: "7"},
		{sources: "json:/id", mediaType: jsonType, body: `{"id":"7"}`, header: "Content-Encoding: identity", want: "7"},
		{sources: "json:/id", mediaType: jsonType, body: `{"id":"7"}`, header: "Content-Encoding: gzip", err: operation.ErrUnreadable},
		{sources: "json:/id", mediaType: jsonType, body: `{"id":"7"}`, header: "Content-Encoding: pigeon", err: operation.ErrUnreadable},
		{sources: "json:/id", mediaType: jsonType, body: zipped(strings.Repeat(" ", 2<<20)), header: "Content-Encoding: gzip", err: operation.ErrExpands},
		{sources: "json:/id", mediaType: jsonType, body: `{"id":"7"}`, header: "Content-Type: text/plain", err: operation.ErrUnreadable},
		{sources: "form:id", mediaType: jsonType, body: "id=7", header: "content-type: " + formType, err: operation.ErrUnreadable},
		{sources: "json:/id", mediaType: jsonType, body: `{"id":"7"}`, header: "Content-Type: " + jsonType, want: "7"},
		{sources: "header:X-Op,json:/id", mediaType: jsonType, body: `{"id":"7"}`, header: "X-Op: 8\r\nContent-Type: text/plain", want: "8"},
		{sources: "query:id", target: "/a?id=7", mediaType: jsonType, body: "x", header: "Content-Type: text/plain", want: "7"},
		{sources: "form:id", mediaType: formType, body: "x=1&id=a%2Bb", want: "a+b"},
		{sources: "form:id", mediaType: formType, body: "id=1&id=2", err: operation.ErrKeysDiffer},
		{sources: "form:id", mediaType: formType, body: "id=%", err: operation.ErrKeyValue},
		{sources: "form:id", mediaType: formType, body: "x=%zz&%zz=2&id=1", want: "1"},
		{sources: "form:id", mediaType: jsonType, body: "id=1"},
		{sources: "form:id", mediaType: parts, body: "--b\r\nContent-Disposition: form-data; name=\"id\"\r\n\r\n7\r\n--b--\r\n", want: "7"},
		{sources: "form:id", mediaType: parts, body: "--b\r\nContent-Disposition: form-data; name=\"id\"; filename=\"f\"\r\n\r\n7\r\n--b--\r\n"},
		{sources: "form:id", mediaType: parts, body: "--b\r\nContent-Disposition: form-data; name=\"id\"\r\n\r\n7", err: operation.ErrUnreadable},
		{sources: "form:id", mediaType: "multipart/form-data", body: "--b--", err: operation.ErrUnreadable},
		{sources: "form:id", mediaType: parts, body: "--b\r\nContent-Disposition: form-data; name=\"id\"\r\n\r\n7\r\n--b", err: operation.ErrUnreadable},
		{sources: "form:id", mediaType: parts, body: "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n7", err: operation.ErrUnreadable},
		{sources: "form:id", mediaType: parts, body: "--c\r\nContent-Disposition: form-data; name=\"id\"\r\n\r\n7\r\n--c--", err: operation.ErrUnreadable},
		{sources: "form:id", mediaType: parts, body: "--b--"},
		{sources: "graphql:idempotent.key", mediaType: jsonType, body: graphQL(`mutation { pay @idempotent(key: "7") { id } }`, ""), want: "7"},
		{sources: "graphql:@idempotent.key", mediaType: jsonType, body: graphQL(`mutation @idempotent(key: """7""") { pay }`, ""), want: "7"},
		{sources: "graphql:idempotent.key", mediaType: jsonType, body: graphQL(`mutation($k: String) { pay @idempotent(key: $k) }`, `,"variables":{"k":"7"}`), want: "7"},
		{sources: "graphql:idempotent.key", mediaType: jsonType, body: graphQL(`mutation($k: String = "7") { pay @idempotent(key: $k) }`, ""), want: "7"},
		{sources: "graphql:idempotent.key", mediaType: jsonType, body: graphQL(`mutation($k: String = "7") { pay @idempotent(key: $k) }`, `,"variables":{"k":null}`)},
		{sources: "graphql:idempotent.key", mediaType: jsonType, body: graphQL(`mutation($k: String) { pay @idempotent(key: $k) }`, `,"variables":{"k":["7"]}`), err: operation.ErrKeyValue},
		{sources: "graphql:idempotent.key", mediaType: jsonType, body: graphQL("mutation { # @idempotent(key: \"8\")\n pay(text: \"@idempotent(key: 9)\") @idempotent(key: 7) }", ""), want: "7"},
		{sources: "graphql:idempotent.key", mediaType: jsonType, body: graphQL("mutation { # @idempotent(key: \"8\")\n pay }", "")},
		{sources: "graphql:idempotent.key", mediaType: jsonType, body: graphQL(`query A { a @idempotent(key: "6") } mutation B { b { ...f } } fragment f on T { c @idempotent(key: "7") ...f }`, `,"operationName":"B"`), want: "7"},
		{sources: "graphql:idempotent.key", mediaType: jsonType, body: graphQL(`query A { a } mutation B { b @idempotent(key: "7") }`, ""), err: operation.ErrUnreadable},
		{sources: "graphql:idempotent.key", mediaType: jsonType, body: graphQL(`mutation { a @idempotent(key: "7") b @idempotent(key: "7") }`, ""), want: "7"},
		{sources: "graphql:idempotent.key", mediaType: jsonType, body: graphQL(`mutation { a @idempotent(key: "7") b @idempotent(key: "8") }`, ""), err: operation.ErrBatch},
		{sources: "graphql:idempotent.key", mediaType: jsonType, body: graphQL(`mutation { a @idempotent(key: [1]) }`, ""), err: operation.ErrKeyValue},
		{sources: "graphql:idempotent.key", mediaType: jsonType, body: graphQL(`mutation { a @idempotent(key: 700) }`, ""), want: "700"},
		{sources: "graphql:idempotent.key", mediaType: jsonType, body: graphQL(`mutation($k: ID) { a @idempotent(key: $k) }`, `,"variables":{"k":700}`), want: "700"},
		{sources: "graphql:idempotent.key", mediaType: jsonType, body: graphQL(`mutation {`, ""), err: operation.ErrUnreadable},
		{sources: "graphql:idempotent.key", mediaType: jsonType, body: graphQL(strings.Repeat("{a", 100_000), ""), err: operation.ErrUnreadable},
		{sources: "graphql:idempotent.key", mediaType: jsonType, body: "[" + graphQL(`mutation { a @idempotent(key: "7") }`, "") + "]", err: operation.ErrBatch},
		{sources: "graphql:idempotent.key", mediaType: jsonType, body: `{"extensions":{"persistedQuery":{}}}`},
		{sources: "graphql:idempotent.key", mediaType: "application/graphql", body: `mutation { a @idempotent(key: "7") }`, want: "7"},
		{sources: "graphql:idempotent.key", method: "GET", target: "/?query=%7B%20a%20%40idempotent(key%3A%20%227%22)%20%7D", want: "7"},
		// Some backends take a POST's document, operation or variables from the URL first.
		{sources: "graphql:idempotent.key", target: inURL("query", `{a @idempotent(key: "8")}`), mediaType: jsonType, body: graphQL(`{a @idempotent(key: "7")}`, ""), err: operation.ErrBatch},
		{sources: "graphql:idempotent.key", target: inURL("query", `{a @idempotent(key: "7")}`), mediaType: jsonType, body: graphQL(`{a @idempotent(key: "7")}`, ""), want: "7"},
		{sources: "graphql:idempotent.key", target: inURL("query", `{a}`), mediaType: jsonType, body: graphQL(`{a @idempotent(key: "7")}`, ""), err: operation.ErrBatch},
		{sources: "graphql:idempotent.key", target: inURL("query", `{a @idempotent(key: "8")}`), mediaType: jsonType, body: `{"extensions":{}}`, err: operation.ErrBatch},
		{sources: "graphql:idempotent.key", target: inURL("query", `{a @idempotent(key: "8")}`), mediaType: "application/graphql", body: `{a @idempotent(key: "7")}`, err: operation.ErrBatch},
		{sources: "graphql:idempotent.key", target: inURL("query", `{a @idempotent(key: "7")}`) + "&query=x", mediaType: jsonType, body: graphQL(`{a @idempotent(key: "7")}`, ""), err: operation.ErrBatch},
		{sources: "graphql:idempotent.key", target: inURL("operationName", "B"), mediaType: jsonType, body: graphQL(`query A {a @idempotent(key: "7")} query B {a @idempotent(key: "8")}`, `,"operationName":"A"`), err: operation.ErrBatch},
		{sources: "graphql:idempotent.key", target: inURL("operationName", "A"), mediaType: jsonType, body: graphQL(`query A {a @idempotent(key: "7")}`, ""), want: "7"},
		{sources: "graphql:idempotent.key", target: inURL("operationName", "Logged"), mediaType: jsonType, body: graphQL(`{a @idempotent(key: "7")}`, ""), want: "7"},
		{sources: "graphql:idempotent.key", target: inURL("variables", `{"k":"8"}`), mediaType: jsonType, body: graphQL(`query($k: String) {a @idempotent(key: $k)}`, `,"variables":{"k":"7"}`), err: operation.ErrBatch},
		{sources: "graphql:idempotent.key", target: inURL("variables", `{"x":"8"}`), mediaType: jsonType, body: graphQL(`query($k: String) {a @idempotent(key: "7")}`, `,"variables":{"k":"7"}`), want: "7"},
		{sources: "graphql:idempotent.key", target: inURL("query", "shoes"), mediaType: jsonType, body: graphQL(`{a @idempotent(key: "7")}`, ""), want: "7"},
		{sources: "graphql:idempotent.key", target: inURL("query", `{a @idempotent(key: "8")}`), err: operation.ErrBatch},
		{sources: "graphql:idempotent.key", target: inURL("query", `{a @idempotent(key: "8")}`), mediaType: formType, body: "x=1", err: operation.ErrBatch},
		{sources: "graphql:idempotent.key", target: inURL("query", `{a}`)},
		{sources: "graphql:idempotent.key", target: inURL("query", "shoes"), mediaType: "text/plain", body: "x"},
		{sources: "graphql:idempotent.key,header:X-Op", target: "/?page=1", header: "X-Op: 7", want: "7"},
		{sources: "graphql:idempotent.key", target: "/?query=&x=%zz", mediaType: jsonType, body: graphQL(`{a @idempotent(key: "7")}`, ""), want: "7"},
		{sources: "graphql:idempotent.key", method: "GET", target: "/?query=%7B%20a%20%40idempotent(key%3A%20%227%22)%20%7D&query=%7B%20a%20%40idempotent(key%3A%20%228%22)%20%7D", err: operation.ErrBatch},
		{sources: "graphql:idempotent.key", method: "GET", target: "/?query=%7B%20a%20%40idempotent(key%3A%20%227%22)%20%7D&query=%7B%20a%20%40idempotent(key%3A%20%227%22)%20%7D", want: "7"},
		{sources: "json-rpc:/arguments/id", mediaType: jsonType, body: `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"arguments":{"id":"7"}}}`, want: "7"},
		{sources: "json-rpc:/id", mediaType: jsonType, body: `{"jsonrpc":"2.0","id":1,"method":"x","params":["7"]}`},
		{sources: "json-rpc:/id", mediaType: jsonType, body: ` [{"jsonrpc":"2.0","id":1,"method":"x","params":{"id":"7"}}]`, err: operation.ErrBatch},
		{sources: "json:/tenant+json:/order", mediaType: jsonType, body: `{"tenant":"a+b","order":"c%"}`, want: "a%2Bb+c%25"},
		{sources: "json:/tenant+json:/order", mediaType: jsonType, body: `{"tenant":"a"}`},
		{sources: "json:/tenant+json:/order", mediaType: jsonType, body: `{"tenant":"","order":"b"}`, err: idem.ErrKeyEmpty},
		{sources: "path:1+header:X-Op", target: "/t", header: "X-Op: 7", want: "t+7"},
		{sources: "o=json:/id", mediaType: jsonType, body: `{"id":"7"}`, want: "o=7"},
		{sources: "json:/id,header:X-Op", mediaType: jsonType, body: `{"id":"7"}`, header: "X-Op: 8", want: "7"}, // the first that is there
		{sources: "json:/id,header:X-Op", mediaType: jsonType, body: `{}`, header: "X-Op: 8", want: "8"},
		{sources: "header:X-Op,json:/id", mediaType: jsonType, body: `{"id":"7`, header: "X-Op: 8", want: "8"},
	} {
		s, err := operation.ParseSources(strings.Split(c.sources, ","))
		if err != nil {
			t.Fatalf("%s: %v", c.sources, err)
		}
		if c.method == "" {
			c.method = "POST"
		}
		if c.target == "" {
			c.target = "/"
		}
		var header []string
		if c.header != "" {
			header = append(header, c.header)
		}
		q := askedOf(t, c.method, c.target, c.mediaType, c.body, header...)
		got, err := s.Find(q, true)
		if !errors.Is(err, c.err) || (err != nil) != (c.err != nil) || got.Key.Value() != c.want || got.Keyed != (c.want != "") {
			t.Errorf("%s of %.60q %.60q: %q, %v; want %q, %v", c.sources, c.target, c.body, got.Key.Value(), err, c.want, c.err)
		}
		if err != nil && len(c.body) > 20 && strings.Contains(err.Error(), "idempotent(") {
			t.Errorf("%v shows the body", err)
		}
	}
}

// Who is refused for what the URL has is told to mend the URL.
func TestGraphQLOfTheURLIsNamed(t *testing.T) {
	t.Parallel()
	s, err := operation.ParseSources([]string{"graphql:idempotent.key"})
	if err != nil {
		t.Fatal(err)
	}
	target := "/?query=" + url.QueryEscape(`{a @idempotent(key: "8")}`)
	_, err = s.Find(askedOf(t, "POST", target, jsonType, `{"query":"{a @idempotent(key: \"7\")}"}`), true)
	if !errors.Is(err, operation.ErrBatch) || !strings.Contains(err.Error(), "leave them out of the URL") {
		t.Error(err)
	}
}

// Before the body is read, what only the body can tell is left open, and nothing else is.
func TestSourcesBeforeTheBody(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		sources, mediaType, header string
		more                       bool
		want                       string
	}{
		{"json:/id", jsonType, "", true, ""},
		{"json:/id", "text/plain", "", false, ""},
		{"json:/id,header:X-Op", "text/plain", "X-Op: 7", false, "7"},
		{"header:X-Op,json:/id", jsonType, "X-Op: 7", false, "7"},
		{"header:X-Op,json:/id", jsonType, "", true, ""},
		{"json:/id,header:X-Op", jsonType, "X-Op: 7", true, ""},
		{"form:id", formType, "", true, ""},
		{"form:id", parts, "", true, ""},
		{"form:id", jsonType, "", false, ""},
		{"graphql:a.b", "application/graphql", "", true, ""},
		{"header:X-Op+json:/id", jsonType, "", false, ""}, // its first part is not there
		{"header:X-Op+json:/id", jsonType, "X-Op: 7", true, ""},
		{"json:/id+header:X-Op", jsonType, "", false, ""}, // its last one
		{"form:id+header:X-Op,header:X-Other", formType, "X-Other: 7", false, "7"},
		{"graphql:a.b+header:X-Op", jsonType, "", false, ""},
	} {
		s, err := operation.ParseSources(strings.Split(c.sources, ","))
		if err != nil {
			t.Fatal(err)
		}
		var header []string
		if c.header != "" {
			header = append(header, c.header)
		}
		q := askedOf(t, "POST", "/", c.mediaType, "{}", header...)
		q.Body = nil
		if f, err := s.Find(q, false); err != nil || f.More != c.more || f.Key.Value() != c.want {
			t.Errorf("%s of %s: %+v, %v", c.sources, c.mediaType, f, err)
		}
		q = askedOf(t, "POST", "/", c.mediaType, "", header...) // none comes
		if f, err := s.Find(q, false); err != nil || f.More {
			t.Errorf("%s without a body: %+v, %v", c.sources, f, err)
		}
	}
}

// Nobody can tell from the header that a body in chunks is empty. It has no key, like one of
// length 0.
func TestSourcesOfAnEmptyBodyInChunks(t *testing.T) {
	t.Parallel()
	for source, mediaType := range map[string]string{
		"json:/id": jsonType, "json-rpc:/id": jsonType, "graphql:a.b": jsonType, "form:id": formType, "form:x": parts,
	} {
		s, err := operation.ParseSources([]string{source, "header:X-Op"})
		if err != nil {
			t.Fatal(err)
		}
		q := askedOf(t, "POST", "/", mediaType, "in chunks", "X-Op: 7")
		q.Body = nil
		if f, err := s.Find(q, true); err != nil || f.Key.Value() != "7" {
			t.Errorf("%s: %+v, %v", source, f, err)
		}
	}
}

// A body that cannot be read has no key where that is wished; what has several
// operations, or no string for a key, is refused all the same.
func TestLenientSources(t *testing.T) {
	t.Parallel()
	s, err := operation.ParseSources([]string{"json-rpc:/id", "header:X-Op"})
	if err != nil {
		t.Fatal(err)
	}
	s = s.Lenient()
	if f, err := s.Find(askedOf(t, "POST", "/", jsonType, "{", "X-Op: 7"), true); err != nil || f.Key.Value() != "7" {
		t.Errorf("%+v, %v", f, err)
	}
	if f, err := s.Find(askedOf(t, "POST", "/", jsonType, "{"), true); err != nil || f.Keyed {
		t.Errorf("%+v, %v", f, err)
	}
	for body, want := range map[string]error{"[]": operation.ErrBatch, `{"params":{"id":{}}}`: operation.ErrKeyValue} {
		if _, err := s.Find(askedOf(t, "POST", "/", jsonType, body, "X-Op: 7"), true); !errors.Is(err, want) {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// Sources are written in one way, and read again.
func TestSourcesWritten(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"header:X-Op": "header:x-op", "json:#/a": "json:/a", "json:#/a%2cb": "json:#/a%2Cb", "json:/a+b": "json:#/a%2Bb",
		"o.1=json:/a+path:3": "o.1=json:/a+path:3", "graphql:@a.b": "graphql:a.b", "query:a=b": "query:a=b", "json:/a b": "json:/a b",
		"json-rpc:/_meta/x": "json-rpc:/_meta/x", "json:/a%": "json:#/a%25", "json:/é": "json:/é",
	} {
		s, err := operation.ParseSources([]string{text})
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if got := s.Texts(); !slices.Equal(got, []string{want}) {
			t.Errorf("%s became %s, want %s", text, got, want)
		}
		if again, err := operation.ParseSources(s.Texts()); err != nil || again.Texts()[0] != want {
			t.Errorf("%s: %v, %v", want, again.Texts(), err)
		}
	}
	s, err := operation.ParseSources([]string{"path:order+path:1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.ForPath("/orders/{id}"); err == nil {
		t.Error("a segment that no path has")
	}
	if placed, err := s.ForPath("/orders/{order}/*"); err != nil || placed.Texts()[0] != "path:2+path:1" {
		t.Errorf("%v, %v", placed.Texts(), err)
	}
	for _, text := range []string{
		"", "x", "header", "header:", "json:", "json:a", "json:/~2", "json:#/%zz", "path:0", "path:x y", "graphql:a", "graphql:.b", "json-rpc",
		"=json:/a", "a b=json:/a", "json:/a+query:b+query:c+query:d+query:e",
	} {
		if s, err := operation.ParseSources([]string{text}); err == nil {
			t.Errorf("%q is %v", text, s.Texts())
		}
	}
	if _, err := operation.ParseSources([]string{"json:/a", "json:#/a"}); err == nil {
		t.Error("one is there twice")
	}
}

// FuzzSources: no body, of whatever type, makes a key that is none, or two keys of one
// request.
func FuzzSources(f *testing.F) {
	s, err := operation.ParseSources([]string{"json:/a/0", "a=json-rpc:/k", "form:k", "graphql:i.key", "query:k", "json:/x+path:1"})
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []struct{ target, mediaType, body string }{
		{"/a?k=1", jsonType, `{"a":["7"],"params":{"k":1e3}}`},
		{"/a", formType, "k=%20&k=+"},
		{"/%2f", parts, "--b\r\nContent-Disposition: form-data; name=k\r\n\r\n7\r\n--b--"},
		{"/", "application/graphql", `{a @i(key: "\u0037") ...f} fragment f on T { a }`},
		{"/", jsonType, `{"query":"query($k:ID!=7){a@i(key:$k)}","variables":{"k":"8"}}`},
	} {
		f.Add(seed.target, seed.mediaType, []byte(seed.body))
	}
	f.Fuzz(func(t *testing.T, target, mediaType string, body []byte) {
		if !message.IsPrintable([]byte(target)) || strings.ContainsAny(target, " ") || !message.IsPrintable([]byte(mediaType)) {
			t.Skip()
		}
		q := askedOf(t, "POST", "/"+target, mediaType, string(body))
		got, err := s.Find(q, true)
		if again, err2 := s.Find(q, true); again != got || (err == nil) != (err2 == nil) {
			t.Errorf("%+v %v, then %+v %v", got, err, again, err2)
		}
		if _, bad := idem.ParseKey(got.Key.Value()); got.Keyed != (bad == nil) || err != nil && got.Keyed {
			t.Errorf("%+v, %v", got, err)
		}
	})
}
