package app_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// What would have become of a request is counted from zero, by route, and logged with
// the key that the log has of it.
func TestWouldIsCountedAndLogged(t *testing.T) {
	t.Parallel()
	b := backendtest.Start(t, func(c backendtest.Conn, q *backendtest.Request) {
		if q.URL.Path == "/pay/cut" {
			c.Reset()
			return
		}
		backendtest.OK(c, q)
	})
	c := config.Default()
	c.Listen, c.Admin, c.Store, c.Backends = []string{"127.0.0.1:0"}, "127.0.0.1:0", "embedded:"+t.TempDir(), []string{b.URL()}
	c.Routes = []config.Route{{Name: "pay", Path: "/pay/*", Rules: c.Rules}}
	c.Routes[0].Observe = true
	if err := c.Routes[0].OnAmbiguous.UnmarshalText([]byte("hold")); err != nil {
		t.Fatal(err)
	}
	out := &log{}
	a := runConfig(t, zerolog.New(out).Level(zerolog.InfoLevel), c)
	before := metrics(t, a)
	for _, name := range []string{`would_total{route="pay",would="replay"}`, `would_hold_total{route="pay"}`} {
		if v, exported := before[name]; !exported || v != 0 {
			t.Errorf("%s is %v before the first request, exported: %v", name, v, exported)
		}
	}
	for _, path := range []string{"/pay/a", "/pay/a", "/pay/cut"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, a.URL()+path, strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Idempotency-Key", path)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	after := metrics(t, a)
	for name, want := range map[string]float64{
		`would_total{route="pay",would="execute"}`: 2, `would_total{route="pay",would="replay"}`: 1, `would_hold_total{route="pay"}`: 1,
		`requests_total{outcome="passed",route="pay"}`: 2, "held_total": 0, `store_duration_seconds_count{operation="acquire"}`: 0,
	} {
		if after[name] != want {
			t.Errorf("%s is %v, want %v", name, after[name], want)
		}
	}
	for _, want := range []string{`"would":"execute","key":"key:`, `"would":"replay","key":"key:`, `"would_end":"stored"`, `"would_end":"held"`} {
		if !strings.Contains(out.text(), want) {
			t.Errorf("the log has no %s:\n%s", want, out.text())
		}
	}
}
