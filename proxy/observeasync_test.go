package proxy_test

import (
	"testing"

	"github.com/idemproxy/idemproxy/operation"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// A request that is only observed reaches the backend with what it prefers: nobody here
// answers before it is executed.
func TestObservedPreferencesGoOn(t *testing.T) {
	t.Parallel()
	sources, err := operation.ParseSources([]string{"json:/id"})
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*proxy.Config){
		"observed":             func(c *proxy.Config) { c.Observe = true },
		"a share is observed":  func(c *proxy.Config) { c.ObservedShare = 10_000 },
		"the key is in a body": func(c *proxy.Config) { c.Observe, c.Key = true, sources },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := make(chan string, 1)
			r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
				got <- q.Header.Get("Prefer")
				c.Answer(200, "made")
			}, func(c *proxy.Config) { c.RespondAsync = true }, change)
			if a := r.post("k", `{"id":"k"}`, preferAsync, "Content-Type: application/json"); a.StatusCode != 200 {
				t.Fatalf("%d %q", a.StatusCode, a.body)
			}
			if prefer := <-got; prefer != "respond-async" {
				t.Errorf("the backend got Prefer: %q", prefer)
			}
		})
	}
}
