package test_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/internal/backend"
	"github.com/idemproxy/idemproxy/internal/dbtest"
	"github.com/idemproxy/idemproxy/internal/storelog"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// serviceHost is what clients call the service, whichever of its proxies they
// reach: the host is part of what a key stands for.
const serviceHost = "service.test"

// binary is the proxy, built once for all tests.
var binary string

func TestMain(m *testing.M) {
	if order := os.Getenv(settleBackendVariable); order != "" { // the backend of TestReceipts
		fmt.Fprintln(os.Stderr, serveSettleBackend(order))
		os.Exit(1)
	}
	overlap()
	os.Exit(buildAndRun(m))
}

// overlap has more tests run at once than there are processors, unless -parallel says how
// many: most of the time they wait, for a lease to lapse or a process to start.
func overlap() {
	flag.Parse()
	said := false
	flag.Visit(func(f *flag.Flag) { said = said || f.Name == "test.parallel" })
	if !said {
		_ = flag.Set("test.parallel", strconv.Itoa(runtime.GOMAXPROCS(0)+1))
	}
}

func buildAndRun(m *testing.M) int {
	if binary = os.Getenv("PROXY_BINARY"); binary != "" { // another release, to be measured
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "idemproxy-test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary = filepath.Join(dir, "idemproxy")
	args := []string{"build", "-race", "-tags", "storelog", "-o", binary} // of which nothing is seen where nobody asks for the log
	if counted() {
		args = append(args, "-cover", "-covermode=atomic", "-coverpkg=github.com/idemproxy/idemproxy/...")
	}
	build := exec.Command("go", append(args, "../cmd/proxy")...)
	build.Env = append(os.Environ(), "CGO_ENABLED=1") // which the race detector needs, and the Makefile turns off
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the proxy: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// buildAsUsersDo builds the proxy without the race detector.
func buildAsUsersDo(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "idemproxy")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", file, "../cmd/proxy")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the proxy: %v\n%s", err, out)
	}
	return file
}

// counted says that proxies count which of their statements they execute, and write it to
// GOCOVERDIR when they end by themselves: see test/rare.
func counted() bool { return os.Getenv("GOCOVERDIR") != "" }

// process is a running proxy.
type process struct {
	t        *testing.T
	cmd      *exec.Cmd
	url      string
	adminURL string
	done     chan struct{}
	ended    time.Duration // when it had, on the clock of package storelog; to be read once done is closed

	mu  sync.Mutex
	log bytes.Buffer // guarded by mu
}

// start runs the proxy on free ports and waits until it serves.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	if !slices.Contains(args, "--listen") {
		args = append([]string{"--listen", "127.0.0.1:0"}, args...)
	}
	return startOn(t, nil, args...)
}

// startOn is start with a socket that is handed over as fd:3, if there is one.
func startOn(t *testing.T, socket *os.File, args ...string) *process {
	t.Helper()
	return startBuild(t, binary, socket, args...)
}

// startBuild is startOn with a binary of its own.
func startBuild(t *testing.T, build string, socket *os.File, args ...string) *process {
	t.Helper()
	return launch{binary: build, socket: socket}.start(t, args...)
}

// launch is how a proxy is started, where it is not as usual.
type launch struct {
	binary string
	env    []string // besides the test's own
	socket *os.File // handed over as fd:3, if there is one
	dies   bool     // it may end before it serves
}

func (l launch) start(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{t: t, done: make(chan struct{})}
	p.cmd = exec.Command(l.binary, append([]string{"--admin", "127.0.0.1:0"}, args...)...)
	p.cmd.Env = append(os.Environ(), l.env...)
	if l.socket != nil {
		p.cmd.ExtraFiles = []*os.File{l.socket}
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	go p.readLog(stderr, started)
	t.Cleanup(func() {
		p.signal(syscall.SIGCONT)
		if counted() {
			p.signal(syscall.SIGTERM)
			select {
			case <-p.done:
			case <-time.After(5 * time.Second): // it has requests that do not end
			}
		}
		p.kill()
		if t.Failed() {
			t.Logf("log of the proxy:\n%s", p.text())
		}
		if strings.Contains(p.text(), "DATA RACE") {
			t.Errorf("data race in the proxy:\n%s", p.text())
		}
	})
	select {
	case <-started:
	case <-p.done:
		if !l.dies {
			t.Fatalf("the proxy ended at once:\n%s", p.text())
		}
	case <-time.After(inVain):
		t.Fatalf("the proxy does not start:\n%s", p.text())
	}
	return p
}

func (p *process) readLog(stderr io.Reader, started chan struct{}) {
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		p.mu.Lock()
		p.log.Write(append(lines.Bytes(), '\n'))
		p.mu.Unlock()
		var line struct{ Event, Listen, Admin string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Event == "started" {
			p.url, p.adminURL = "http://"+line.Listen, line.Admin
			close(started)
		}
	}
	_ = p.cmd.Wait()
	p.ended = storelog.Now()
	close(p.done)
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// kill ends it at once and waits until it is gone. It may be repeated.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// stop drains it and returns its exit code.
func (p *process) stop() int {
	p.signal(syscall.SIGTERM)
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

// metric reads one counter; labels as Prometheus prints them.
func (p *process) metric(name string) float64 {
	p.t.Helper()
	resp, err := http.Get(p.adminURL + "/metrics") //nolint:noctx // a test
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			var v float64
			if _, err := fmt.Sscan(text, &v); err != nil {
				p.t.Fatal(err)
			}
			return v
		}
	}
	p.t.Fatalf("there is no metric %s", name)
	return 0
}

// ready asks /readyz.
func (p *process) ready() (status int, body string) {
	p.t.Helper()
	resp, err := http.Get(p.adminURL + "/readyz") //nolint:noctx // a test
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

// answer is a response that was read whole.
type answer struct {
	status   int
	body     string
	replayed bool
	header   http.Header
	closes   bool // the connection, after it
}

func (a answer) String() string {
	return fmt.Sprintf("%d %q (replayed: %v)", a.status, a.body, a.replayed)
}

// try sends a request with a key.
func (p *process) try(path, key string) (answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+path, strings.NewReader("amount=5"))
	if err != nil {
		return answer{}, err
	}
	req.Host = serviceHost
	req.Header.Set("X-Idempotency-Key", key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, string(b), resp.Header.Get("Idempotent-Replayed") == "true", resp.Header, resp.Close}, err
}

func (p *process) post(path, key string) answer {
	p.t.Helper()
	a, err := p.try(path, key)
	if err != nil {
		p.t.Fatalf("%s with key %s: %v", path, key, err)
	}
	return a
}

// expect posts and checks the status and whether it is a replay.
func (p *process) expect(path, key string, status int, replayed bool) answer {
	p.t.Helper()
	a := p.post(path, key)
	if a.status != status || a.replayed != replayed {
		p.t.Errorf("%s with key %s: %v, want %d (replayed: %v)", path, key, a, status, replayed)
	}
	return a
}

// origin is the demo backend, running in this process, which outlives proxies.
type origin struct {
	*backend.Backend
	t    *testing.T
	addr string
}

func newOrigin(t *testing.T) *origin {
	t.Helper()
	return serveOrigin(t, backend.New())
}

func serveOrigin(t *testing.T, b *backend.Backend) *origin {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &origin{Backend: b, t: t, addr: ln.Addr().String()}
	go func() { _ = o.Serve(ln) }()
	t.Cleanup(func() { _ = ln.Close() })
	return o
}

func (o *origin) url() string { return "http://" + o.addr }

func (o *origin) executions(key string, want int) {
	o.t.Helper()
	if c := o.Count(key); c.Executions != want || c.Started != want {
		o.t.Errorf("key %s: %d executions (%d started), want %d", key, c.Executions, c.Started, want)
	}
}

// started waits until the backend is at work on a key.
func (o *origin) started(key string) {
	o.t.Helper()
	eventually(o.t, "the backend starts on "+key, func() bool { return o.Count(key).Started > 0 })
}

// inVain is when a test gives up what should have happened long ago, also on a busy machine.
const inVain = 2 * time.Minute

// eventually polls for what happens in another process, where no event can be
// awaited.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(inVain); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

// onEveryStore runs a test on the embedded store, on Redis and on PostgreSQL. store
// gives the value of --store.
func onEveryStore(t *testing.T, f func(t *testing.T, store string)) {
	t.Helper()
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		f(t, "embedded:"+t.TempDir())
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		f(t, redistest.Start(t).URL())
	})
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		f(t, dbtest.StartPostgres(t).URL("postgres"))
	})
}

func execCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), runAtMost)
	t.Cleanup(cancel)
	return exec.CommandContext(ctx, binary, args...)
}

func writeText(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
