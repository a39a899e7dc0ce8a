package differential_test

import (
	"bufio"
	"bytes"
	"context"
	"embed"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/template"
	"time"
)

//go:embed testdata
var testdata embed.FS

// reader is a server that reads what the proxy forwards.
type reader struct {
	name    string
	command string
	pkg     string // of Debian that has it
	config  string // in testdata; a program or settings
	// args of the command: {config}, {dir} and {port} are put in.
	args []string
	// origin starts what the reader forwards to; nil: it answers by itself, and
	// prints its records.
	origin func(t *testing.T, name string, into *records) (addr string)
}

func readers() []reader {
	return []reader{
		{name: "nginx", command: "nginx", pkg: "nginx-light", config: "nginx.conf", args: []string{"-p", "{dir}", "-c", "{config}"}, origin: startHTTPOrigin},
		{name: "apache2", command: "apache2", pkg: "apache2-bin", config: "apache2.conf", args: []string{"-f", "{config}", "-DFOREGROUND"}, origin: startHTTPOrigin},
		{name: "haproxy", command: "haproxy", pkg: "haproxy", config: "haproxy.cfg", args: []string{"-db", "-q", "-f", "{config}"}, origin: startHTTPOrigin},
		{name: "lighttpd", command: "lighttpd", pkg: "lighttpd", config: "lighttpd.conf", args: []string{"-D", "-f", "{config}"}, origin: startSCGIOrigin},
		{name: "node", command: "node", pkg: "nodejs", config: "node.js", args: []string{"{config}", "{port}"}},
		{name: "http.server", command: "python3", pkg: "python3", config: "httpserver.py", args: []string{"{config}", "{port}"}},
		{name: "gunicorn", command: "gunicorn", pkg: "gunicorn", config: "wsgi.py", args: []string{
			"--bind", "127.0.0.1:{port}", "--worker-class", "gthread", "--threads", "4", "--keep-alive", "600", "--chdir", "{dir}",
			"--worker-tmp-dir", "{dir}", "--graceful-timeout", "1", "--limit-request-line", "8190", "--log-level", "critical", "wsgi",
		}},
	}
}

// running is a reader at work.
type running struct {
	*reader
	addr    string
	records *records
}

// start runs it on a free port. Few of these servers can choose one themselves,
// so it is chosen for them, and another one if somebody was faster.
func (r *reader) start(t *testing.T) *running {
	t.Helper()
	path, err := exec.LookPath(r.command)
	if err != nil {
		path = filepath.Join("/usr/sbin", r.command) // not on everybody's PATH
		if _, err := os.Stat(path); err != nil {
			if testing.Short() {
				t.Skipf("%s is missing", r.command)
			}
			t.Fatalf("%s is missing: install the package %s (make test does)", r.command, r.pkg)
		}
	}
	w := &running{reader: r, records: newRecords()}
	var origin string
	if r.origin != nil {
		origin = r.origin(t, r.name, w.records)
	}
	var said string
	for range 5 {
		ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test
		if err != nil {
			t.Fatal(err)
		}
		w.addr = ln.Addr().String()
		_ = ln.Close()
		var up bool
		if up, said = w.launch(t, path, origin); up {
			return w
		}
	}
	t.Fatalf("%s does not start: %s", r.name, said)
	return nil
}

// configure writes config into a new directory.
func (w *running) configure(t *testing.T, origin string) (dir, config string) {
	t.Helper()
	dir = t.TempDir()
	text, err := testdata.ReadFile("testdata/" + w.config)
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(w.addr)
	originHost, originPort, _ := net.SplitHostPort(origin)
	var out bytes.Buffer
	if err := template.Must(template.New("").Parse(string(text))).Execute(&out, map[string]string{
		"Dir": dir, "Port": port, "Origin": origin, "OriginHost": originHost, "OriginPort": originPort, "Modules": "/usr/lib/apache2/modules",
	}); err != nil {
		t.Fatal(err)
	}
	config = filepath.Join(dir, w.config)
	if err := os.WriteFile(config, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, config
}

// launch reports whether the reader serves, or what it said instead.
func (w *running) launch(t *testing.T, path, origin string) (up bool, said string) {
	t.Helper()
	dir, config := w.configure(t, origin)
	_, port, _ := net.SplitHostPort(w.addr)
	args := make([]string, len(w.args))
	for i, arg := range w.args {
		args[i] = strings.NewReplacer("{dir}", dir, "{config}", config, "{port}", port).Replace(arg)
	}
	cmd := exec.CommandContext(context.Background(), path, args...)
	cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr := &output{}
	cmd.Stderr = stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		lines := bufio.NewScanner(stdout)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if err := w.records.addLine(lines.Bytes()); err != nil {
				_, _ = fmt.Fprintln(stderr, err)
			}
		}
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(atMost):
			_ = cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("%s said: %s", w.name, stderr)
		}
	})
	for {
		if w.sync("/ready") == nil {
			w.records.take()
			return true, ""
		}
		select {
		case <-ended:
			return false, stderr.String()
		case <-time.After(10 * time.Millisecond): // another process's doing
		}
	}
}

// sync sends the reader a request past the proxy and waits until it is written
// down. What the reader read before is then, too.
func (w *running) sync(path string) error {
	ctx, cancel := context.WithTimeout(context.Background(), atMost)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.addr+path, http.NoBody)
	if err != nil {
		return err
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	return w.records.await(path, ctx.Done())
}

// output is what a process says.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
