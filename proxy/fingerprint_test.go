package proxy_test

import (
	"strings"
	"testing"

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
	for name, c := range map[string]struct {
		parts string
		a, b  request
		same  bool
	}{
		"the default":              {"method,target,body", js(`{"a":1}`), js(`{"a": 1}`), false},
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
		"boundary":                 {"method,target,multipart", form("x", "1"), form("yyy", "1"), true},
		"boundary, as bytes":       {"method,target,body", form("x", "1"), form("yyy", "1"), false},
		"another part":             {"method,target,multipart", form("x", "1"), form("yyy", "2"), false},
		"JSON beside multipart":    {"method,target,multipart,json", js(`{"a":1}`), js(`{"a": 1}`), true},
		"a header":                 {"method,target,body,header:X-Tenant", request{"/p", "", "x-tenant: a"}, request{"/p", "", "X-Tenant: b"}, false},
		"the same header":          {"method,target,body,header:X-Tenant", request{"/p", "", "x-tenant: a"}, request{"/p", "", "X-Tenant: a"}, true},
		"a header that is missing": {"method,target,body,header:X-Tenant", request{"/p", "", "X-Tenant: "}, request{"/p", "", ""}, false},
		"another header":           {"method,target,body,header:X-Tenant", request{"/p", "", "X-Other: a"}, request{"/p", "", "X-Other: b"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, err := proxy.ParseFingerprint(strings.Split(c.parts, ","))
			if err != nil {
				t.Fatal(err)
			}
			r := newRig(t, backendtest.OK, func(cfg *proxy.Config) { cfg.Fingerprint = f })
			send := func(q request) answer {
				if q.header == "" {
					q.header = "X-None: 1"
				}
				return r.do("POST", q.target, "k", q.body, q.header)
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
	for _, parts := range []string{"", "method,verb", "header:", "target,path", "body,json", "multipart,body", "method,method"} {
		if _, err := proxy.ParseFingerprint(strings.FieldsFunc(parts, func(r rune) bool { return r == ',' })); err == nil {
			t.Errorf("%q was taken", parts)
		}
	}
}
