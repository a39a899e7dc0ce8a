package cli_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/app"
	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// Status says what is wrong, and why; of what is well again it says nothing.
func TestStatusSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	b := backendtest.Start(t, func(c backendtest.Conn, _ *backendtest.Request) { _ = c.Close() })
	a, _ := run(t, b.URL(), func(c *config.Config) { c.OnAmbiguous = idem.AmbiguousHold })
	at := strings.TrimPrefix(a.AdminURL(), "http://")
	shown := func() string {
		t.Helper()
		code, out := command(t, "status", "--admin", at)
		if code != 0 {
			t.Errorf("exit code %d: %s", code, out)
		}
		return out
	}
	if out := shown(); !strings.Contains(out, "ready") || strings.Contains(out, "wrong") {
		t.Errorf("all is well, and it says %s", out)
	}
	send(t, a.URL(), "held")
	for !strings.Contains(shown(), "1 key held") && t.Context().Err() == nil { // it is counted a moment later
		time.Sleep(10 * time.Millisecond)
	}
	b.Close()
	if out := shown(); !strings.Contains(out, "not ready") || !strings.Contains(out, "wrong      backend since 2") || !strings.Contains(out, "refused") || !strings.Contains(out, " or earlier: ") || !strings.Contains(out, "backend-cut 1") {
		t.Errorf("it says %s", out)
	}
	code, out := command(t, "status", "--json", "--admin", at)
	var s struct {
		Ready  struct{ Status string }
		Status app.Status
	}
	if err := json.Unmarshal([]byte(out), &s); code != 0 || err != nil || s.Ready.Status != "not ready" || s.Status.Amiss == nil {
		t.Errorf("%d %v: %s", code, err, out)
	}
}

// A proxy of an earlier release has no history; what it does have is shown.
func TestStatusOfAnOlderProxy(t *testing.T) {
	t.Parallel()
	b := backendtest.Start(t, func(c backendtest.Conn, _ *backendtest.Request) { _ = c.Close() })
	a, _ := run(t, b.URL())
	u, err := url.Parse(a.AdminURL())
	if err != nil {
		t.Fatal(err)
	}
	through := httputil.NewSingleHostReverseProxy(u)
	older := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/history" {
			http.NotFound(w, r)
			return
		}
		through.ServeHTTP(w, r)
	}))
	defer older.Close()
	if code, out := command(t, "status", "--admin", strings.TrimPrefix(older.URL, "http://")); code != 0 || !strings.Contains(out, "ready") {
		t.Errorf("exit code %d: %s", code, out)
	}
}
