package test_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// readiness is what /readyz answers.
type readiness struct {
	Status   string
	Degraded []string
	Checks   map[string]string
}

// readyWith asks /readyz with a query.
func (p *process) readyWith(query string) (status int, r readiness) {
	p.t.Helper()
	resp, err := http.Get(p.adminURL + "/readyz" + query) //nolint:noctx // a test
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	_ = json.NewDecoder(resp.Body).Decode(&r) // or it is empty
	return resp.StatusCode, r
}

// readies expects an answer of /readyz, and what is degraded.
func (p *process) readies(query string, status int, word string, degraded ...string) {
	p.t.Helper()
	got, r := p.readyWith(query)
	if got != status || r.Status != word || !slices.Equal(r.Degraded, degraded) {
		p.t.Errorf("/readyz%s: %d %+v, want %d %q, degraded %q", query, got, r, status, word, degraded)
	}
}

// One dead upstream of several, or a dead store where traffic without keys or under
// fail_open goes on, is said and does not take the proxy out of its balancer; what a
// setting or a question names does.
func TestReadiness(t *testing.T) {
	t.Parallel()
	redis, o := redistest.Start(t), newOrigin(t)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + dead.Addr().String()
	_ = dead.Close()
	serve := func(rest string) *process {
		t.Helper()
		file := filepath.Join(t.TempDir(), "idemproxy.yaml")
		text := fmt.Sprintf("store: %s\nstore_timeout: 500ms\nbackend: [%s]\n%s", redis.URL(), o.url(), rest)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return start(t, "-c", file)
	}
	upstreams := fmt.Sprintf("upstreams:\n  - {name: dead, backend: [%q]}\n  - name: half\n    backend: [%q, %q]\n    health_path: /h\n"+
		"    health_interval: 100ms\n", nobody, nobody, o.url())
	routes := "routes:\n  - {name: dead, path: /dead, upstream: dead}\n  - {name: half, path: /half, upstream: half, require_key: true}\n"
	edge := serve(upstreams + routes)
	eventually(t, "half of half is seen to be dead", func() bool {
		_, r := edge.readyWith("")
		return slices.Contains(r.Degraded, "upstream:half")
	})
	edge.readies("", 200, "degraded", "upstream:dead", "upstream:half")
	edge.readies("?upstream=dead", 503, "not ready", "upstream:dead")
	edge.readies("?upstream=half", 200, "degraded", "upstream:half")
	edge.readies("?upstream=default", 200, "ready")
	edge.readies("?upstream=nobody", 404, "")
	edge.readies("?require=upstream:dead", 503, "not ready", "upstream:dead", "upstream:half")
	edge.readies("?require=upstream:half,store", 200, "degraded", "upstream:dead", "upstream:half")
	edge.readies("?require=all", 503, "not ready", "upstream:dead", "upstream:half")
	edge.readies("?require=nothing", 400, "")

	strict := serve(upstreams + routes + "ready_requires: [store, \"upstream:half\"]\n")
	keyed := serve("require_key: true\n")
	open := serve("require_key: true\nfail_open: true\n")
	eventually(t, "strict sees it, too", func() bool { _, r := strict.readyWith(""); return len(r.Degraded) == 2 })
	strict.readies("", 200, "degraded", "upstream:dead", "upstream:half")
	keyed.readies("", 200, "ready")
	redis.Kill()
	edge.readies("", 200, "degraded", "store", "upstream:dead", "upstream:half")
	edge.readies("?upstream=half", 503, "not ready", "store", "upstream:half") // its route wants keys
	edge.readies("?upstream=default", 200, "degraded", "store")
	edge.readies("?require=store", 503, "not ready", "store", "upstream:dead", "upstream:half")
	strict.readies("", 503, "not ready", "store", "upstream:dead", "upstream:half")
	keyed.readies("", 503, "not ready", "store")
	open.readies("", 200, "degraded", "store")
}
