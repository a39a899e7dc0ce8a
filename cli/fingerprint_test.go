package cli_test

import (
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/cli"
)

const fingerprintFile = `backend: http://127.0.0.1:9000
routes:
  - name: orders
    path: /orders/*
    key: [json:/id]
    fingerprint: [method, path, query, json, "except:/at"]
  - name: some
    path: /some
    key_methods: [PUT]
  - name: tenants
    path: /tenants
    scope: [header:X-Tenant]
  - name: forms
    path: /forms
    fingerprint: [method, path, query, form, multipart, "header:X-A"]
`

// What is printed of one request, and of two, in whichever form they come.
func TestFingerprintCommand(t *testing.T) {
	t.Parallel()
	file := writeFile(t, fingerprintFile)
	request := func(target, body string, header ...string) string {
		return writeFile(t, "POST "+target+" HTTP/1.1\nHost: a\nContent-Type: application/json\n"+strings.Join(header, "")+"\n"+body)
	}
	typed := func(target, contentType, body string, header ...string) string {
		return writeFile(t, "POST "+target+" HTTP/1.1\nHost: a\nIdempotency-Key: k\nContent-Type: "+contentType+"\n"+strings.Join(header, "")+"\n"+body)
	}
	const form, parts = "application/x-www-form-urlencoded", "multipart/form-data; boundary=b"
	part := func(name, content string) string {
		return "--b\r\nContent-Disposition: form-data; name=" + name + "\r\nA: b\r\n\r\n" + content + "\r\n"
	}
	first := request("/orders/1?a=1&b=2", `{"id":"o-1","at":1,"n":{"m":5}}`)
	for _, c := range []struct {
		name string
		args []string
		code int
		want []string
	}{
		{"one", []string{first}, cli.ExitOK, []string{"route        orders", "key          o-1 (json:/id)", `json    {"id":"o-1","n":{"m":5}}`}},
		{"the same", []string{first, request("/orders/1?b=2&a=1", `{"at":2,"id":"o-1","n":{"m":5.0}}`)}, cli.ExitOK, []string{"the same request, with the key o-1"}},
		{"who asks", []string{request("/else", "x", "Authorization: Bearer a\n")}, cli.ExitOK, []string{"caller       authorization: Bearer a\n"}},
		{"another caller", []string{
			request("/else", "x", "Idempotency-Key: k\n", "Authorization: Bearer a\n"), request("/else", "x", "Idempotency-Key: k\n", "Authorization: Bearer b\n"),
		}, cli.ExitFailed, []string{"caller differs:\n  1  authorization: Bearer a\n  2  authorization: Bearer b\n"}},
		{"a caller and nobody", []string{
			request("/else", "x", "Idempotency-Key: k\n", "Authorization: Bearer a\n"), request("/else", "x", "Idempotency-Key: k\n", "Authorization:\n"),
		}, cli.ExitFailed, []string{"2  (nothing says it)"}},
		{"another scope", []string{
			request("/tenants", "x", "Idempotency-Key: k\n", "X-Tenant: a\n"), request("/tenants", "x", "Idempotency-Key: k\n", "X-Tenant: b\n"),
		}, cli.ExitFailed, []string{"scope differs:\n  1  header:x-tenant: a\n  2  header:x-tenant: b\n"}},
		{"another number", []string{first, request("/orders/1?b=2&a=1", `{"id":"o-1","n":{"m":6}}`)}, cli.ExitFailed, []string{"json at /n/m differs"}},
		{"another key and path", []string{first, request("/orders/2?b=2&a=1", `{"id":"o-2","n":{"m":5}}`)}, cli.ExitFailed, []string{"key differs", "path differs", "json at /id differs"}},
		{"no JSON", []string{first, request("/orders/1?b=2&a=1", `{"id":`)}, cli.ExitFailed, []string{"refused: the key is looked for in the body"}},
		{"a query and a form", []string{typed("/forms?b=2&a=1&c", form, "y=%26+&x=1&x=0")}, cli.ExitOK, []string{"  query   a=1&b=2&c\n", "  form    x=1&x=0&y=%26+\n"}},
		{"another query", []string{typed("/forms?b=2&a=1", form, "x"), typed("/forms?a=1&b=2&a=1", form, "x")}, cli.ExitFailed, []string{
			"query differs:\n  1  a=1&b=2\n  2  a=1&a=1&b=2\nidemproxy: the requests differ",
		}},
		{"no query", []string{typed("/forms?a=", form, "x"), typed("/forms", form, "x")}, cli.ExitFailed, []string{"query differs:\n  1  a=\n  2  (not there)\nidemproxy: the requests differ"}},
		{"another form", []string{typed("/forms", form, "x=1&y=2"), typed("/forms", form, "y=2&x=3")}, cli.ExitFailed, []string{"form differs:\n  1  x=1&y=2\n  2  x=3&y=2\n"}},
		{"another field", []string{typed("/forms", form, "x"), typed("/forms", form, "x", "X-A: 1\n")}, cli.ExitFailed, []string{"header:x-a differs:\n  1  (not there)\n  2  1\nidemproxy: the requests differ"}},
		{"another type", []string{typed("/forms", form, "x=1"), typed("/forms", "text/plain", "x=1")}, cli.ExitFailed, []string{
			"form differs:\n  1  x=1\n  2  (not there)\n", "body differs:\n  1  (not there)\n  2  x=1\n",
		}},
		{"parts", []string{typed("/forms", parts, part("x", "1")+"--b--\r\n")}, cli.ExitOK, []string{
			"  part 1     A: b, Content-Disposition: form-data; name=x, content: 1\n",
		}},
		{"another part", []string{
			typed("/forms", parts, part("x", "1")+part("y", "2")+"--b--\r\n"), typed("/forms", parts, "z\r\n"+part("x", "1")+part("y", strings.Repeat("3", 300))+"--b--\r\n"),
		}, cli.ExitFailed, []string{
			"preamble differs:\n  1  (not there)\n  2  z\npart 2 differs:\n  1  A: b, Content-Disposition: form-data; name=y, content: 2\n" +
				"  2  A: b, Content-Disposition: form-data; name=y, content: 300 bytes, sha256:",
		}},
		{"two in one", []string{writeFile(t, "GET /some HTTP/1.1\r\nHost: a\r\n\r\nGET /some HTTP/1.1\r\nHost: b\r\n\r\n")}, cli.ExitFailed, []string{"host differs"}},
		{"no key for the method", []string{request("/some", "", "Idempotency-Key: k\n")}, cli.ExitOK, []string{"key          none"}},
		{"a terminal is not steered", []string{request("/else", "\x1b[31m\x9b")}, cli.ExitOK, []string{"body    ", "(the settings at large)"}},
		{"none", []string{writeFile(t, "hello")}, cli.ExitUsage, []string{"this is no HTTP/1.1 request"}},
		{"nothing", []string{writeFile(t, "")}, cli.ExitUsage, []string{"this is no HTTP/1.1 request"}},
		{"no file", []string{"/does/not/exist"}, cli.ExitUsage, []string{"the request: open"}},
		{"too many", []string{first, writeFile(t, "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: b\r\n\r\n")}, cli.ExitUsage, []string{"3 requests"}},
	} {
		code, out := command(t, append([]string{"fingerprint", "-c", file}, c.args...)...)
		for _, want := range c.want {
			if code != c.code || !strings.Contains(out, want) || strings.Contains(out, "\x1b") || strings.Contains(out, "\x9b") {
				t.Errorf("%s: exit code %d, want %d and %q:\n%s", c.name, code, c.code, want, out)
			}
		}
	}
}
