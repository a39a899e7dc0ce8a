package test_test

import (
	"encoding/pem"
	"io"
	"net"
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

// A second signal ends at once, and says how many requests that cut.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	p := start(t, "--store", "embedded:"+t.TempDir(), "--backend", o.url(), "--drain-delay", "1h", "--drain-timeout", "0")
	for _, key := range []string{"k", "l"} {
		go func() { _, _ = p.try("/slow?d=1h", key) }()
		o.started(key)
	}
	p.signal(syscall.SIGTERM)
	eventually(t, "it drains", func() bool { return strings.Contains(p.text(), `"event":"draining"`) })
	p.signal(syscall.SIGTERM)
	<-p.done
	if code := p.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(p.text(), `"cut":2`) || !strings.Contains(p.text(), "another signal") {
		t.Errorf("exit code %d", code)
	}
	lines := strings.Split(strings.TrimSpace(p.text()), "\n")
	if last := lines[len(lines)-1]; !strings.Contains(last, `"event":"stopped"`) { // as its document says
		t.Errorf("the last line of the log: %s", last)
	}
}

// A client that has left does not hold up the end, though nothing bounds it.
func TestDrainOfWhoHasLeft(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	p := start(t, "--store", "embedded:"+t.TempDir(), "--backend", o.url(), "--drain-timeout", "0")
	c, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "GET /slow?d=1h&k=gone HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the proxy forwards it", func() bool { return strings.Contains(p.upstreams(), `"active":1`) })
	_ = c.Close()
	if code := p.stop(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// upstreams is what /status says.
func (p *process) upstreams() string {
	resp, err := http.Get(p.adminURL + "/status") //nolint:noctx // a test
	if err != nil {
		return ""
	}
	defer func() { _ = resp.Body.Close() }()
	b, _ := io.ReadAll(resp.Body)
	return strings.Join(strings.Fields(string(b)), "")
}
