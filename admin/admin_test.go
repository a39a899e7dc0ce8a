package admin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/admin"
)

func TestHealthAndReadiness(t *testing.T) {
	t.Parallel()
	var storeErr error
	serves := true
	s := admin.New(admin.Config{
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "metrics") }),
		Ready: func(context.Context, *string) (admin.Readiness, error) {
			return admin.Readiness{Serves: serves, Checks: []admin.Checked{{Name: "store", Err: storeErr}, {Name: "backend"}}}, nil
		},
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	get := func(path string, status int, word string) map[string]any {
		t.Helper()
		resp, err := http.Get("http://" + ln.Addr().String() + path) //nolint:noctx // a test
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		var body map[string]any
		if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != status || body["status"] != word {
			t.Errorf("%s: %d %v, want %d %q", path, resp.StatusCode, body, status, word)
		}
		return body
	}
	get("/healthz", 200, "alive")
	get("/readyz", 200, "ready")
	storeErr = errors.New("cannot be reached")
	get("/readyz", 200, "degraded")
	serves = false
	if checks, _ := get("/readyz", 503, "not ready")["checks"].(map[string]any); checks["store"] != "cannot be reached" || checks["backend"] != "ok" {
		t.Errorf("reasons: %v", checks)
	}
	get("/healthz", 200, "alive")
	since := func() string {
		all, _ := get("/readyz", 503, "not ready")["since"].(map[string]any)
		return fmt.Sprint(all)
	}
	first := since()
	if !strings.HasPrefix(first, "map[store:2") || since() != first {
		t.Errorf("since %s, and then %s", first, since())
	}
	storeErr, serves = nil, true
	if _, there := get("/readyz", 200, "ready")["since"]; there {
		t.Error("all is well since a time")
	}
	s.Drain()
	get("/readyz", 503, "draining")
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}
