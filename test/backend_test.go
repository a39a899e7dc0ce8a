package test_test

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// A backend of https:// is verified against the system's roots; one that is not
// trusted is sent nothing.
func TestTLSBackend(t *testing.T) {
	var executions atomic.Int64
	backend := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		executions.Add(1)
		_, _ = w.Write([]byte("over TLS"))
	}))
	t.Cleanup(backend.Close)

	stranger := start(t, "--store", "embedded:"+t.TempDir(), "--backend", backend.URL)
	if a := stranger.expect("/", "k", 502, false); !strings.Contains(a.body, "backend-unreachable") {
		t.Errorf("an untrusted backend: %v", a)
	}
	if n := executions.Load(); n != 0 {
		t.Errorf("an untrusted backend executed %d times", n)
	}

	roots := filepath.Join(t.TempDir(), "roots.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: backend.Certificate().Raw})
	if err := os.WriteFile(roots, text, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", roots) // which is why this test is not parallel
	p := start(t, "--store", "embedded:"+t.TempDir(), "--backend", backend.URL)
	for i := range 20 {
		key := strings.Repeat("k", i+1) // over connections that are kept
		if a := p.expect("/", key, 200, false); a.body != "over TLS" {
			t.Errorf("got %v", a)
		}
		p.expect("/", key, 200, true)
	}
	if n := executions.Load(); n != 20 {
		t.Errorf("%d executions, want 20", n)
	}
}

// A drain that takes too long ends with exit code 1 and says so.
func TestDrainTimeout(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	p := start(t, "--store", "embedded:"+t.TempDir(), "--backend", o.url(), "--drain-timeout", "300ms")
	go func() { _, _ = p.try("/slow?d=30s", "k") }()
	o.started("k")
	p.signal(syscall.SIGTERM)
	<-p.done
	if code := p.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(p.text(), "--drain-timeout") {
		t.Errorf("exit code %d", code)
	}
}
