package test_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"

	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// attack sends requests with a key each at a steady rate, until stop is called,
// which returns the keys and what went wrong.
type attack struct {
	sent   atomic.Int64
	prefix string
	done   chan []string
	end    func()
}

func startAttack(url, prefix string, rate int) *attack {
	a := &attack{prefix: prefix, done: make(chan []string, 1)}
	// Where the machine cannot keep up with the rate, what it can do is enough.
	attacker := vegeta.NewAttacker(vegeta.Timeout(30*time.Second), vegeta.MaxWorkers(32))
	var once sync.Once
	a.end = func() { once.Do(func() { attacker.Stop() }) }
	next := func(t *vegeta.Target) error {
		t.Method, t.URL, t.Body = http.MethodPost, url+"/", []byte("amount=5")
		t.Header = http.Header{"Idempotency-Key": {fmt.Sprintf("%s%d", prefix, a.sent.Add(1))}}
		return nil
	}
	// Bounded, should nobody stop it.
	results := attacker.Attack(next, vegeta.ConstantPacer{Freq: rate, Per: time.Second}, time.Minute, prefix)
	go func() {
		var wrong []string
		for r := range results {
			if r.Code != http.StatusOK || r.Error != "" {
				wrong = append(wrong, fmt.Sprintf("%d %s %.200s", r.Code, r.Error, r.Body))
			}
		}
		a.done <- wrong
	}()
	return a
}

// more waits until n further requests have been sent.
func (a *attack) more(t *testing.T, n int64) {
	t.Helper()
	from := a.sent.Load()
	eventually(t, "the attack goes on", func() bool { return a.sent.Load() >= from+n })
}

// stop ends the attack: every request must have been answered by 200, and have
// executed once.
func (a *attack) stop(t *testing.T, o *origin) {
	t.Helper()
	a.end()
	if wrong := <-a.done; len(wrong) > 0 {
		t.Errorf("%d of %d requests were lost: %s", len(wrong), a.sent.Load(), wrong[0])
	}
	for i := range a.sent.Load() {
		if key := fmt.Sprintf("%s%d", a.prefix, i+1); o.Count(key).Executions != 1 {
			t.Errorf("%s: %+v, want one execution", key, o.Count(key))
		}
	}
	t.Logf("figure: %d requests, none lost", a.sent.Load())
}

func writeConfig(t *testing.T, path, text string) {
	t.Helper()
	// As an editor or a mounted directory does it: the new file takes the old
	// one's place.
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// Settings change under load: routes, upstreams and limits at once, while a bad
// file, or one that needs a restart, changes nothing. No request is lost, and one
// that is under way ends as it began.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	file := filepath.Join(t.TempDir(), "idemproxy.yaml")
	settings := fmt.Sprintf("backend: [%s]\nstore: embedded:%s\nstore_timeout: 20s\n", o.url(), t.TempDir())
	writeConfig(t, file, settings)
	p := start(t, "--config", file)
	reloaded := func(event string, n int) func() bool {
		return func() bool { return strings.Count(p.text(), `"event":"`+event+`"`) >= n }
	}

	slow := make(chan answer, 1)
	go func() { slow <- p.post("/slow?d=2s", "slow") }()
	o.started("slow")

	load := startAttack(p.url, "reload-", 200)
	for i := range 5 {
		load.more(t, 40)
		writeConfig(t, file, settings+fmt.Sprintf(
			"upstreams:\n- name: other\n  backend: %s\n  max_conns: %d\nroutes:\n- path: /*\n  upstream: other\n  max_request_body: %dKiB\n",
			o.url(), 50+i, 1+i))
		p.signal(syscall.SIGHUP)
		eventually(t, "it is reloaded", reloaded("reloaded", i+1))
	}
	for _, bad := range []struct{ text, says string }{
		{"backend: 7\n", file + `:1: backend: `},
		{"lock_ttl: 1parsec\n", file + `:1: lock_ttl: \"1parsec\" is not a duration`},
		{settings + "namespace: other\n", file + `:4: namespace: a change needs a restart`},
	} {
		load.more(t, 20)
		writeConfig(t, file, bad.text)
		p.signal(syscall.SIGHUP)
		eventually(t, "the log says "+bad.says, func() bool { return strings.Contains(p.text(), bad.says) })
	}
	failed := strings.Count(p.text(), `"event":"reload_failed"`) // the file's own change may be noticed before the signal
	// And without a signal: the file is looked at.
	writeConfig(t, file, settings+"require_key: true\n")
	eventually(t, "the change is noticed", func() bool {
		_, last, _ := strings.Cut(p.text(), file+`:4: namespace`)
		return strings.Contains(last, `"event":"reloaded"`)
	})
	load.more(t, 20)
	load.stop(t, o)
	if a := <-slow; a.status != 200 {
		t.Errorf("the request under way: %v", a)
	}
	o.executions("slow", 1)
	resp, err := http.Post(p.url+"/", "text/plain", strings.NewReader("x")) //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != 400 {
		t.Errorf("without a key: %d, want 400 by the new settings", resp.StatusCode)
	}
	if n := p.metric(`idemproxy_reloads_total{result="failed"}`); n < 3 || int(n) != failed {
		t.Errorf("%v failed reloads are counted, want %d, as in the log", n, failed)
	}
}

// socketOf is a listening socket that outlives the proxies, as a service manager
// has it.
func socketOf(t *testing.T) (*os.File, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	f, err := ln.(*net.TCPListener).File() //nolint:forcetypeassert // it is one
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f, "http://" + ln.Addr().String()
}

// With Redis, a new proxy takes over before the old one leaves.
func TestRollingRestartUnderLoad(t *testing.T) {
	t.Parallel()
	o, redis := newOrigin(t), redistest.Start(t)
	socket, url := socketOf(t)
	args := []string{"--listen", "fd:3", "--backend", o.url(), "--store", redis.URL(), "--store-timeout", "20s", "--drain-delay", "300ms"}
	p := startOn(t, socket, args...)
	load := startAttack(url, "rolling-", 200)
	for range 4 {
		load.more(t, 60)
		next := startOn(t, socket, args...)
		if code := p.stop(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		p = next
	}
	load.more(t, 60)
	load.stop(t, o)
}

// With the embedded store, which is one process's, the next one starts when the
// last one has ended; what connects in between waits at the socket.
func TestRestartUnderLoad(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	socket, url := socketOf(t)
	args := []string{"--listen", "fd:3", "--backend", o.url(), "--store", "embedded:" + t.TempDir(), "--store-timeout", "20s", "--drain-delay", "300ms"}
	p := startOn(t, socket, args...)
	load := startAttack(url, "restart-", 100)
	for range 3 {
		load.more(t, 40)
		if code := p.stop(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		p = startOn(t, socket, args...)
	}
	load.more(t, 40)
	load.stop(t, o)
}

// After the signal to stop the proxy says at once that it is not ready, and goes
// on answering for a while, closing each connection.
func TestDrainDelay(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	p := start(t, "--backend", o.url(), "--store", "embedded:"+t.TempDir(), "--drain-delay", "2s")
	p.expect("/", "before", 200, false)
	p.signal(syscall.SIGTERM)
	eventually(t, "it is not ready", func() bool {
		status, body := p.ready()
		return status == 503 && strings.Contains(body, "draining")
	})
	a := p.expect("/", "during", 200, false)
	if !a.closes {
		t.Errorf("%v: want the connection to be closed", a.header)
	}
	<-p.done
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// patterned is n bytes that say where they are.
type patterned struct{ at, n int64 }

func (p *patterned) Read(b []byte) (int, error) {
	if p.at >= p.n {
		return 0, io.EOF
	}
	n := copy(b[:min(int64(len(b)), p.n-p.at)], pattern()[p.at%251:])
	p.at += int64(n)
	return n, nil
}

// pattern is as much of it as is copied at once: the race detector looks at each byte that
// is written by itself.
var pattern = sync.OnceValue(func() []byte {
	b := make([]byte, 64<<10)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
})

// isPatterned reads r to its end.
func isPatterned(r io.Reader, n int64) error {
	want := &patterned{n: n}
	got, expected := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		m, err := r.Read(got)
		if _, readErr := io.ReadFull(want, expected[:m]); readErr != nil || !bytes.Equal(got[:m], expected[:m]) {
			return fmt.Errorf("another byte before %d: %w", want.at, readErr)
		}
		if err == io.EOF && want.at == n {
			return nil
		}
		if err != nil {
			return fmt.Errorf("after %d bytes: %w", want.at, err)
		}
	}
}

// A gibibyte up and a gibibyte down, of known length and of unknown, in memory that
// does not grow with it.
func TestGibibytesInConstantMemory(t *testing.T) {
	t.Parallel()
	const n = 1 << 30
	mux := http.NewServeMux()
	mux.HandleFunc("POST /up", func(w http.ResponseWriter, r *http.Request) {
		if err := isPatterned(r.Body, n); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
	mux.HandleFunc("GET /down", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "known" {
			w.Header().Set("Content-Length", fmt.Sprint(n))
		}
		_, _ = io.Copy(w, &patterned{n: n})
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(ln) }()
	t.Cleanup(func() { _ = server.Close() })
	p := start(t, "--backend", "http://"+ln.Addr().String(), "--store", "embedded:"+t.TempDir())
	get := func(path string) {
		resp, err := http.Get(p.url + path) //nolint:noctx // a test
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if err := isPatterned(resp.Body, n); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	post := func(length int64) {
		req, err := http.NewRequest(http.MethodPost, p.url+"/up", &patterned{n: n}) //nolint:noctx // a test
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = length
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if b, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 {
			t.Errorf("%d %s", resp.StatusCode, b)
		}
	}
	before := p.peakMemory()
	get("/down?known")
	get("/down")
	post(n)
	post(-1)
	grown := p.peakMemory() - before
	t.Logf("figure: 4 x 1 GiB; memory grew by %d KiB at most", grown>>10)
	if grown > 64<<20 {
		t.Errorf("memory grew by %d MiB, more than 64", grown>>20)
	}
}

// peakMemory is the most that the process ever had resident.
func (p *process) peakMemory() int64 {
	p.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	var kib int64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		p.t.Fatal(err)
	}
	return kib << 10
}
