package proxy_test

import (
	"bytes"
	"compress/gzip"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/operation"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// Which two requests with one key are the same, by what the route looks at.
func TestFingerprints(t *testing.T) {
	t.Parallel()
	type request struct{ target, body, header string }
	form := func(boundary, value string) request {
		return request{
			"/p", "--" + boundary + "\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n" + value + "\r\n--" + boundary + "--\r\n",
			"Content-Type: multipart/form-data; boundary=" + boundary,
		}
	}
	js := func(body string) request { return request{"/p", body, "Content-Type: application/json; charset=utf-8"} }
	urlencoded := func(body string) request {
		return request{"/p", body, "Content-Type: application/x-www-form-urlencoded"}
	}
	before := func(text string, q request) request { q.body = text + q.body; return q }
	behind := func(q request, text string) request { q.body += text; return q }
	trimmed := func(q request) request { q.body = strings.TrimSuffix(q.body, "\r\n"); return q }
	typed := func(q request, text string) request { q.header += text; return q }
	// nested has other parts for each of its two boundaries.
	nested := func(boundary string) request {
		return request{
			"/p", "--A\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n5\r\n--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n6\r\n--B--\r\n--A--\r\n",
			"Content-Type: multipart/form-data; boundary=" + boundary,
		}
	}
	for name, c := range map[string]struct {
		parts string
		a, b  request
		same  bool
	}{
		"the default":              {"method,target,body", js(`{"a":1}`), js(`{"a": 1}`), false},
		"an overridden method":     {"method,target,body", request{"/p", "", "X-HTTP-Method-Override: PUT"}, request{"/p", "", "X-HTTP-Method-Override: DELETE"}, false},
		"a method, or overridden":  {"method,target,body", request{"/p", "", "X-HTTP-Method: DELETE"}, request{"/p", "", ""}, false},
		"the same override":        {"method,target,body", request{"/p", "", "X-Method-Override: PUT"}, request{"/p", "", "x-method-override: PUT"}, true},
		"override without method":  {"target,body", request{"/p", "", "X-HTTP-Method-Override: PUT"}, request{"/p", "", ""}, true},
		"query":                    {"method,target,body", request{"/p?a", "", ""}, request{"/p?b", "", ""}, false},
		"query ignored":            {"method,path,body", request{"/p?a", "", ""}, request{"/p?b", "", ""}, true},
		"path still counts":        {"method,path,body", request{"/p?a", "", ""}, request{"/q?a", "", ""}, false},
		"body ignored":             {"method,target", request{"/p", "a", ""}, request{"/p", "b", ""}, true},
		"JSON spelled anew":        {"method,target,json", js(`{"a":1,"b":[true]}`), js("{ \"b\" : [ true ],\n\"a\":1.0 }"), true},
		"other JSON":               {"method,target,json", js(`{"a":1}`), js(`{"a":2}`), false},
		"order in lists counts":    {"method,target,json", js(`[1,2]`), js(`[2,1]`), false},
		"JSON under another type":  {"method,target,json", request{"/p", `{"a":1}`, "Content-Type: text/plain"}, request{"/p", `{"a": 1}`, "Content-Type: text/plain"}, false},
		"problem+json":             {"method,target,json", request{"/p", `{"a":1}`, "Content-Type: application/x+json"}, request{"/p", `{"a": 1}`, "Content-Type: application/x+json"}, true},
		"no JSON after all":        {"method,target,json", js(`{"a":`), js(`{"a": `), false},
		"numbers beyond doubles":   {"method,target,json", js(`{"n":9007199254740993}`), js(`{"n":9007199254740992}`), false},
		"fractions beyond doubles": {"method,target,json", js(`[0.10000000000000001]`), js(`[0.1]`), false},
		"long digits in strings":   {"method,target,json", js(`{"pan":"4242424242424242"}`), js(`{ "pan":"4242424242424242"}`), true},
		"a form, not JSON":         {"method,target,body", request{"/p", "a=1", "Content-Type: application/x-www-form-urlencoded"}, request{"/p", "a=1", "Content-Type: application/json"}, false},
		"a type, or none":          {"method,target,body", request{"/p", "a=1", "Content-Type: application/json"}, request{"/p", "a=1", ""}, false},
		"a type spelled anew":      {"method,target,body", request{"/p", "a", `Content-Type: Text/Plain; a=b; charset="UTF-8"`}, request{"/p", "a", "Content-Type: text/plain;charset=utf-8"}, true},
		"another charset":          {"method,target,body", request{"/p", "a", "Content-Type: text/plain; charset=utf-8"}, request{"/p", "a", "Content-Type: text/plain; charset=latin1"}, false},
		"a charset in a charset":   {"method,target,body", request{"/p", "a", "Content-Type: a/b; charset=x; charset=y"}, request{"/p", "a", `Content-Type: a/b; charset="x; charset=y"`}, false},
		"the type of no body":      {"method,target", request{"/p", "a", "Content-Type: a/b"}, request{"/p", "a", "Content-Type: a/c"}, true},
		"a coding":                 {"method,target,body", request{"/p", "a", "Content-Encoding: gzip"}, request{"/p", "a", ""}, false},
		"a coding spelled anew":    {"method,target,body", request{"/p", "a", "Content-Encoding: GZIP, identity"}, request{"/p", "a", "content-encoding: gzip"}, true},
		"codings in another order": {"method,target,body", request{"/p", "a", "Content-Encoding: gzip, br"}, request{"/p", "a", "Content-Encoding: br, gzip"}, false},
		"identity":                 {"method,target,body", request{"/p", "a", "Content-Encoding: identity"}, request{"/p", "a", ""}, true},
		"header order":             {"method,target,body", request{"/p", "a", "Content-Encoding: br\nContent-Type: a/b"}, request{"/p", "a", "Content-Type: a/b\nContent-Encoding: br"}, true},
		"JSON in another charset":  {"method,target,json", js(`{"a":1}`), request{"/p", `{"a":1}`, "Content-Type: application/json; charset=utf-16"}, false},
		"GET of a range":           {"method,target,body", request{"/p", "", "Range: bytes=0-1"}, request{"/p", "", "Range: bytes=2-3"}, false},
		"GET of all":               {"method,path,body", request{"/p", "", "Range: bytes=0-1"}, request{"/p", "", ""}, false},
		"GET on a condition":       {"method,target,body", request{"/p", "", "If-None-Match: a"}, request{"/p", "", "If-None-Match: b"}, false},
		"GET on another condition": {"method,target,body", request{"/p", "", "If-None-Match: a"}, request{"/p", "", "If-Match: a"}, false},
		"GET without a target":     {"method,body", request{"/p", "", "If-None-Match: a"}, request{"/p", "", "If-None-Match: b"}, true},
		"POST of a range":          {"method,target,body", request{"/p", "", "Range: bytes=0-1"}, request{"/p", "", ""}, true},
		"another host":             {"method,target,body", request{"/p", "a", "Host: a.example"}, request{"/p", "a", "Host: b.example"}, false},
		"another host, path only":  {"method,path,body", request{"/p", "a", "Host: a.example"}, request{"/p?q", "a", "Host: b.example"}, false},
		"another port":             {"method,target,body", request{"/p", "a", "Host: a.example"}, request{"/p", "a", "Host: a.example:8080"}, false},
		"a host spelled anew":      {"method,target,body", request{"/p", "a", "Host: a.example"}, request{"/p", "a", "Host: A.Example.:443"}, true},
		"any host":                 {"method,target,any-host,body", request{"/p", "a", "Host: a.example"}, request{"/p", "a", "Host: b.example"}, true},
		"any host, another path":   {"method,path,any-host,body", request{"/p", "a", "Host: a.example"}, request{"/q", "a", "Host: b.example"}, false},
		"boundary":                 {"method,target,multipart", form("x", "1"), form("yyy", "1"), true},
		"boundary, as bytes":       {"method,target,body", form("x", "1"), form("yyy", "1"), false},
		"another part":             {"method,target,multipart", form("x", "1"), form("yyy", "2"), false},
		"JSON beside multipart":    {"method,target,multipart,json", js(`{"a":1}`), js(`{"a": 1}`), true},
		"no number is two":         {"method,target,json", js(`[1e-400]`), js(`[0]`), false},
		"minus zero":               {"method,target,json", js(`[-0]`), js(`[0]`), false},
		"a long number":            {"method,target,json", js(`[9007199254740993]`), js(`[ 9007199254740993.0 ]`), true},
		"a byte order mark":        {"method,target,json", js("\xef\xbb\xbf[1]"), js(`[1]`), true},
		"a member twice":           {"method,target,json", js(`{"a":1,"a":1}`), js(`{"a":1, "a":1}`), false},
		"left out":                 {"method,target,json,except:/at,except:/items/*/trace", js(`{"at":1,"items":[{"trace":1,"n":1}]}`), js(`{"items":[{"n":1,"trace":2}],"at":9}`), true},
		"left out, and more":       {"method,target,json,except:/at", js(`{"at":1,"n":1}`), js(`{"at":2,"n":2}`), false},
		"only":                     {"method,target,json,only:/n", js(`{"at":1,"n":1}`), js(`{"at":2,"n":1.0}`), true},
		"only, another":            {"method,target,json,only:/n", js(`{"at":1,"n":1}`), js(`{"at":1,"n":2}`), false},
		"only of what is no JSON":  {"method,target,json,only:/n", request{"/p", `{"n":1,"x":1}`, "Content-Type: text/plain"}, request{"/p", `{"n":1,"x":2}`, "Content-Type: text/plain"}, false},
		"fields in another order":  {"method,path,query,body", request{"/p?a=1&b=2&b=1", "", ""}, request{"/p?b=2&a=%31&b=1", "", ""}, true},
		"a list of a query":        {"method,path,query,body", request{"/p?a=1&a=2", "", ""}, request{"/p?a=2&a=1", "", ""}, false},
		"a semicolon in a query":   {"method,path,query,body", request{"/p?a=1;b=2", "", ""}, request{"/p?a=1%3Bb=2", "", ""}, false},
		"fields once more":         {"method,path,query,body", request{"/p?a=1", "", ""}, request{"/p?a=1&a=1", "", ""}, false},
		"another field":            {"method,path,query,body", request{"/p?a=1", "", ""}, request{"/p?a=2", "", ""}, false},
		"a malformed query":        {"method,path,query,body", request{"/p?a=%zz&b", "", ""}, request{"/p?b&a=%zz", "", ""}, false},
		"a form in another order":  {"method,target,form", urlencoded("a=1&b=2"), urlencoded("b=2&a=%31"), true},
		"a list in another order":  {"method,target,form", urlencoded("a=1&a=2"), urlencoded("a=2&a=1"), false},
		"items of a form":          {"method,target,form", urlencoded("i[][s]=A&i[][q]=1&i[][s]=B"), urlencoded("i[][s]=A&i[][s]=B&i[][q]=1"), false},
		"items among other fields": {"method,target,form", urlencoded("a=1&i[][s]=A&i[][q]=1&b=2"), urlencoded("b=2&i[][s]=A&a=1&i%5B%5D[q]=1"), true},
		"members in another order": {"method,target,form", urlencoded("m[a]=1&m[b]=2&n[0][c]=3"), urlencoded("n[0][c]=3&m[b]=2&m[a]=1"), true},
		"a value and its members":  {"method,target,form", urlencoded("m=1&m[b]=2"), urlencoded("m[b]=2&m=1"), false},
		"a semicolon in a form":    {"method,target,form", urlencoded("a=1;b=2"), urlencoded("a=1%3Bb=2"), false},
		"a malformed form":         {"method,target,form", urlencoded("a=%&b"), urlencoded("b&a=%"), false},
		"another boundary":         {"method,target,body", nested("A"), nested("B"), false},
		"another boundary, parts":  {"method,target,multipart", nested("A"), nested("B"), false},
		"a boundary spelled anew":  {"method,target,body", typed(form("x", "1"), "; charset=utf-8"), typed(request{"/p", form("x", "1").body, `Content-Type: multipart/form-data; Boundary="x"`}, "; charset=utf-8"), true},
		"two boundaries":           {"method,target,body", typed(nested("A"), "; boundary=B"), typed(nested("A"), "; boundary=C"), false},
		"a delimiter in a part":    {"method,target,multipart", form("x", "1\n--x\nA: b\n\n2"), form("y", "1\n--x\nA: b\n\n2"), false},
		"a type said in two ways":  {"method,target,json", typed(js(`{"a":1}`), "\nContent-Type: text/plain"), typed(js(`{ "a":1}`), "\nContent-Type: text/plain"), false},
		"a type said twice":        {"method,target,json", typed(js(`{"a":1}`), "\nContent-Type: application/json; charset=utf-8"), typed(js(`{ "a":1}`), "\nContent-Type: application/json; charset=utf-8"), true},
		"a preamble":               {"method,target,multipart", form("x", "1"), before("pre\r\n", form("x", "1")), false},
		"an epilogue":              {"method,target,multipart", form("x", "1"), behind(form("x", "1"), "post"), false},
		"no line behind the last":  {"method,target,multipart", form("x", "1"), trimmed(form("x", "1")), true},
		"a charset of multipart":   {"method,target,multipart", form("x", "1"), typed(form("x", "1"), "; charset=utf-16"), false},
		"a coding of a form":       {"method,target,json", js(`{"a":1}`), request{"/p", zipped(`{"a": 1}`), "Content-Type: application/json; charset=utf-8\nContent-Encoding: gzip"}, true},
		"a coding that is none":    {"method,target,json", js(`{"a":1}`), request{"/p", `{"a":1}`, "Content-Type: application/json; charset=utf-8\nContent-Encoding: gzip"}, false},
		"a header":                 {"method,target,body,header:X-Tenant", request{"/p", "", "x-tenant: a"}, request{"/p", "", "X-Tenant: b"}, false},
		"the same header":          {"method,target,body,header:X-Tenant", request{"/p", "", "x-tenant: a"}, request{"/p", "", "X-Tenant: a"}, true},
		"a header that is missing": {"method,target,body,header:X-Tenant", request{"/p", "", "X-Tenant: "}, request{"/p", "", ""}, false},
		"another header":           {"method,target,body,header:X-Tenant", request{"/p", "", "X-Other: a"}, request{"/p", "", "X-Other: b"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, err := operation.ParseFingerprint(strings.Split(c.parts, ","))
			if err != nil {
				t.Fatal(err)
			}
			r := newRig(t, backendtest.OK, func(cfg *proxy.Config) { cfg.Fingerprint = f })
			send := func(q request) answer {
				if q.header == "" {
					q.header = "X-None: 1"
				}
				method := "POST"
				if strings.HasPrefix(name, "GET") {
					method = "GET"
				}
				return r.do(method, q.target, "k", q.body, strings.Split(q.header, "\n")...)
			}
			send(c.a)
			if b := send(c.b); c.same != (b.StatusCode == 200) {
				t.Errorf("the second got %d %s", b.StatusCode, b.body)
			}
			if a := send(c.a); a.Header.Get("Idempotent-Replayed") != "true" {
				t.Errorf("the first again got %d %s", a.StatusCode, a.body)
			}
			r.executions("k", 1)
		})
	}
}

func TestFingerprintsThatCannotBe(t *testing.T) {
	t.Parallel()
	for _, parts := range []string{
		"", "method,verb", "header:", "target,path", "body,json", "multipart,body", "method,method", "any-host,method", "query",
		"target,query", "form,body", "method,except:/a", "json,except:/a,only:/b", "json,except:a", "json,except:", "json,except:/a,except:#/a",
		"method,header:a,header:A",
	} {
		if _, err := operation.ParseFingerprint(strings.FieldsFunc(parts, func(r rune) bool { return r == ',' })); err == nil {
			t.Errorf("%q was taken", parts)
		}
	}
}

func zipped(body string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(body))
	_ = w.Close()
	return b.String()
}
