package app_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// The admin listener checks what it is asked.
func TestResolveRequests(t *testing.T) {
	t.Parallel()
	backend := backendtest.Start(t, backendtest.OK)
	a, _ := run(t, zerolog.InfoLevel, backend.URL())
	for body, status := range map[string]int{
		`{`: 400,
		`{"key":"","confirm":true,"action":"retry"}`:                                                  400,
		`{"key":"k","confirm":true,"action":"erase"}`:                                                 400,
		`{"key":"k","confirm":true,"action":"retry","status":200}`:                                    400,
		`{"key":"k","confirm":true,"action":"complete","status":99}`:                                  400,
		`{"key":"k","confirm":true,"action":"complete","status":200,"header":{"a b":"c"}}`:            400,
		`{"key":"k","confirm":true,"action":"complete","status":200,"header":{"a":"b\r\nc:d"}}`:       400,
		`{"key":"k","confirm":true,"action":"complete","status":200,"header":{"content-length":"5"}}`: 400,
		`{"key":"k","confirm":true,"action":"retry","sure":true}`:                                     400,
		`{"key":"k","confirm":true,"action":"retry"}`:                                                 409,
		`{"key":"k","action":"retry"}`:                                                                428,
		`{"key":"k","confirm":false,"action":"complete","status":200}`:                                428,
	} {
		resp, err := http.Post(a.AdminURL()+"/keys/resolve", "application/json", strings.NewReader(body)) //nolint:noctx // a test
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != status {
			t.Errorf("%s: %d, want %d", body, resp.StatusCode, status)
		}
	}
	resp, err := http.Post(a.AdminURL()+"/keys/resolve", "text/plain", strings.NewReader(`{"key":"k","confirm":true,"action":"retry"}`)) //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusUnsupportedMediaType {
		t.Errorf("a form's type: %d", resp.StatusCode)
	}
}

// The page's parts and the API's description come from the binary, and say
// nothing without being asked with the token.
func TestPageFiles(t *testing.T) {
	t.Parallel()
	a, _ := run(t, zerolog.Disabled, "http://127.0.0.1:1")
	for path, kind := range map[string]string{
		"/": "text/html", "/page.js": "text/javascript", "/requests.js": "text/javascript", "/key.js": "text/javascript",
		"/banner.js": "text/javascript", "/charts.js": "text/javascript", "/bulk.js": "text/javascript", "/settings.js": "text/javascript",
		"/vendor/dygraph-2.2.1.min.js": "text/javascript", "/vendor/dygraph-2.2.1.min.css": "text/css",
		"/vendor/LICENSE-dygraphs.txt": "text/plain", "/settings?only=changed": "application/yaml", "/history": "application/json",
		"/page.css": "text/css", "/openapi.json": "application/json",
		"/status": "application/json", "/settings": "application/yaml",
	} {
		resp, err := http.Get(a.AdminURL() + path) //nolint:noctx // a test
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != 200 || !strings.HasPrefix(resp.Header.Get("Content-Type"), kind) || len(b) == 0 {
			t.Errorf("%s: %d %s", path, resp.StatusCode, resp.Header)
		}
	}
}

// The description of the API names what there is, and nothing else.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	a, _ := run(t, zerolog.Disabled, "http://127.0.0.1:1")
	resp, err := http.Get(a.AdminURL() + "/openapi.json") //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var api struct{ Paths map[string]map[string]any }
	if err := json.NewDecoder(resp.Body).Decode(&api); err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for path, methods := range api.Paths {
		for method := range methods {
			named[strings.ToUpper(method)+" "+path] = true
		}
	}
	for _, there := range []string{
		"GET /healthz", "GET /readyz", "GET /metrics", "GET /status", "GET /settings", "GET /events", "GET /requests", "GET /history", "GET /keys", "GET /keys/list",
		"POST /keys/resolve", "POST /keys/release", "POST /keys/purge",
		"GET /advice", "POST /backup",
	} {
		if !named[there] {
			t.Errorf("%s is not described", there)
		}
		delete(named, there)
		method, path, _ := strings.Cut(there, " ")
		ctx, cancel := context.WithCancel(t.Context())
		req, err := http.NewRequestWithContext(ctx, method, a.AdminURL()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		cancel() // events have no end
		if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", there, resp.StatusCode)
		}
	}
	if len(named) > 0 {
		t.Errorf("described, but not known here: %v", named)
	}
}
