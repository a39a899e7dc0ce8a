package test_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/idemproxy/idemproxy/proxy/backendtest"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// Three evenings of somebody on call, played with a real Prometheus, which scrapes a real proxy and has the
// rules that are shipped. The engineer knows what the alert links to, the runbook, and nothing else: the
// commands are taken from it and run as they are printed. The time to the cause is counted in commands.

// causeWithin is how many commands of the alert's section it may take until one has printed the cause.
const causeWithin = 1

// Redis dies, and comes back without its records.
func TestEveningRedisComesBackEmpty(t *testing.T) {
	t.Parallel()
	redis, o := redistest.Start(t), newOrigin(t)
	before := start(t, "--store", redis.URL(), "--backend", o.url(), "--log-format", "json") // the same unit, before a restart
	before.expect("/", "order-42-charge", 200, false)
	before.expect("/", "order-45-charge", 200, false)
	before.stop()
	e := evening(t, "store: "+redis.URL()+"\nbackend: "+o.url()+"\nstore_timeout: 500ms\n")
	e.earlier = before.text()

	redis.Kill()
	e.p.expect("/", "order-46-charge", 500, false)
	section := e.alert("IdemproxyStoreLost")
	e.cause(section, "store_lost", redis.Addr, "refused")
	e.amiss("store_lost", "refused")

	redis.Wipe()
	redis.Restart()
	section = e.alert("IdemproxyStoreEmptied")
	e.cleared("IdemproxyStoreLost")
	e.amiss("store_emptied", "lost its records")
	e.p.expect("/", "order-42-charge", 200, false) // what the alert is about: it executes again
	o.executions("order-42-charge", 2)
	outs := e.cause(section, "store_emptied")
	if !strings.Contains(outs[1], `"empty":true`) {
		t.Errorf("the log does not say that it came back empty: %s", outs[1])
	}
	twice := strings.Fields(outs[2])
	if len(twice) != 1 {
		t.Fatalf("executed twice, as the runbook finds it: %q", twice)
	}
	if out := e.run("idemproxy inspect " + twice[0]); !strings.Contains(out, "order-42-charge") {
		t.Errorf("inspect %s: %s", twice[0], out)
	}
	o.executions("order-46-charge", 0)
}

// cutting is a backend that cuts one request in ten until it is mended: one half of those before it has
// charged, the other half after that. Its ledger says which operations it has charged.
type cutting struct {
	*backendtest.Backend
	mended atomic.Bool

	mu     sync.Mutex
	ledger map[string]int // guarded by mu; charges by key
}

func newCutting(t *testing.T) *cutting {
	t.Helper()
	c := &cutting{ledger: map[string]int{}}
	c.Backend = backendtest.Start(t, func(conn backendtest.Conn, q *backendtest.Request) {
		key, n := q.Header.Get("X-Idempotency-Key"), 0
		_, _ = fmt.Sscanf(key, "order-%d-charge", &n)
		cuts := n%10 == 2 && !c.mended.Load()
		if cuts && n%20 == 2 {
			_ = conn.Close()
			return
		}
		c.mu.Lock()
		c.ledger[key]++
		c.mu.Unlock()
		if cuts {
			_ = conn.Close()
			return
		}
		conn.Answer(http.StatusCreated, "charged "+key)
	})
	return c
}

func (c *cutting) charges(key string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ledger[key]
}

// A backend cuts one request in ten for ten minutes, of which there are two thousand, and keys are
// held. Two hundred of them are resolved at once, after a dry run.
func TestEveningBackendCutsOneInTen(t *testing.T) {
	t.Parallel()
	b := newCutting(t)
	e := evening(t, "store: embedded:"+t.TempDir()+"\nbackend: "+b.URL()+"\non_ambiguous: hold\ncount_every: 1s\n")
	const requests, cut = 2000, 200
	held := e.traffic(requests)
	if len(held) != cut {
		t.Fatalf("%d requests were cut, want %d", len(held), cut)
	}
	section := e.alert("IdemproxyUnknownKeysWaiting")
	eventually(t, "the store is counted again", func() bool { return e.status().UnknownKeys == cut })
	if s := e.status(); s.UnknownKeys != cut || s.Requests["backend-cut"] != cut {
		t.Errorf("the page says %+v", s)
	}
	e.cause(section, fmt.Sprintf("%d keys held", cut), fmt.Sprintf("backend-cut %d", cut))

	b.mended.Store(true)
	one := e.runBlock(section, 1) // one key, said to be not executed, and another one, said to be executed
	if !strings.Contains(one[0], "unknown") {
		t.Errorf("inspect: %s", one[0])
	}
	e.p.expect("/", "order-42-charge", 201, false)
	e.p.expect("/", "order-43-charge", 201, true)

	e.runBlock(section, 2) // which keys are held
	var notExecuted, executed []string
	for record := range strings.Lines(e.read("held.jsonl")) { // the backend is asked about each
		if b.charges(keyOf(t, record)) == 0 {
			notExecuted = append(notExecuted, record)
		} else {
			executed = append(executed, record)
		}
	}
	if len(notExecuted) != cut/2-1 || len(executed) != cut/2-1 {
		t.Fatalf("%d and %d keys are held, want %d each", len(notExecuted), len(executed), cut/2-1)
	}
	e.write("not-executed.txt", strings.Join(notExecuted, ""))
	e.write("executed.txt", strings.Join(executed, ""))
	e.bulk(section, b, len(notExecuted), len(executed))
	e.cleared("IdemproxyUnknownKeysWaiting")

	for _, record := range notExecuted {
		e.p.expect("/", keyOf(t, record), 201, false)
	}
	for _, record := range executed {
		e.p.expect("/", keyOf(t, record), 201, true)
	}
	for i := range requests {
		if key := fmt.Sprintf("order-%d-charge", i); b.charges(key) != 1 {
			t.Errorf("%s: charged %d times", key, b.charges(key))
		}
	}
}

// keyOf is the key of a record of list --json.
func keyOf(t *testing.T, record string) string {
	t.Helper()
	var k struct{ Key string }
	if err := json.Unmarshal([]byte(record), &k); err != nil || k.Key == "" {
		t.Fatalf("%v: %s", err, record)
	}
	return k.Key
}

// bulk runs the runbook's block line by line: a dry run changes nothing, and what follows it does what it had said.
func (e *night) bulk(section string, b *cutting, notExecuted, executed int) {
	e.t.Helper()
	lines := e.blocks(section)[3]
	before := b.Total()
	for i, want := range []struct {
		says string
		left int
	}{
		{fmt.Sprintf("a dry run, nothing was done: %d keys would be freed", notExecuted), notExecuted + executed},
		{fmt.Sprintf("%d keys freed", notExecuted), executed},
		{fmt.Sprintf("a dry run, nothing was done: %d keys would be completed", executed), executed},
		{fmt.Sprintf("%d keys completed", executed), 0},
		{"no key is held", 0},
	} {
		out := e.run(lines[i])
		if !strings.Contains(out, want.says) {
			e.t.Errorf("%s: does not say %q: %s", lines[i], want.says, firstLines([]byte(out), 20))
		}
		eventually(e.t, fmt.Sprintf("%d keys are held after %s", want.left, lines[i]), func() bool { return int(e.status().UnknownKeys) == want.left })
	}
	if b.Total() != before {
		e.t.Errorf("%d requests reached the backend meanwhile", b.Total()-before)
	}
}

// A reload with a mistake: the alert, the line, and its end once the line is right.
func TestEveningWrongReload(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	e := evening(t, "store: embedded:"+t.TempDir()+"\nbackend: "+o.url()+"\n")
	right := e.read("idemproxy.yaml")
	e.write("idemproxy.yaml", right+"max_in_flight: many\n")
	section := e.alert("IdemproxyReloadFailed")
	line := fmt.Sprintf("idemproxy.yaml:%d", strings.Count(right, "\n")+1)
	e.cause(section, "reload_failed", line, "max_in_flight")
	e.amiss("reload_failed", "max_in_flight")
	e.p.expect("/", "order-42-charge", 200, false) // it goes on

	e.write("idemproxy.yaml", right+"max_in_flight: 100\n")
	check := e.blocks(section)[0][1]
	if out := e.run(check); e.code != 0 {
		t.Errorf("%s: %d %s", check, e.code, out)
	}
	e.cleared("IdemproxyReloadFailed")
	eventually(t, "nothing is amiss", func() bool { return len(e.status().Amiss) == 0 })
	if out := e.run("idemproxy status"); strings.Contains(out, "wrong") {
		t.Errorf("all is well again, and status says %s", out)
	}
	e.p.expect("/", "order-42-charge", 200, true)
}

// night is an evening's stage: a proxy with a file of settings, Prometheus, and a shell of the engineer's.
type night struct {
	t    *testing.T
	p    *process
	dir  string // the shell's; the settings are in it
	prom string // URL of Prometheus
	code int    // exit code of the last command
	// earlier is what the journal has of the time before the proxy started.
	earlier string
}

// evening sets the stage.
func evening(t *testing.T, settings string) *night {
	t.Helper()
	e := stage(t, settings)
	e.prom = monitor(t, strings.TrimPrefix(e.p.adminURL, "http://"))
	eventually(t, "Prometheus has scraped the proxy", func() bool { return e.value(`up{job="idemproxy"}`) == "1" })
	return e
}

// stage is an evening on which nobody watches.
func stage(t *testing.T, settings string) *night {
	t.Helper()
	e := &night{t: t, dir: t.TempDir()}
	admin := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	e.write("idemproxy.yaml", "admin: "+admin+"\nlog_format: json\n"+settings)
	e.write("body", "charged by hand")
	e.write("bin/idemproxy", "#!/bin/sh\nexec "+binary+" \"$@\"\n")
	// What systemd would keep of the proxy's log.
	e.write("bin/journalctl", "#!/bin/sh\ncat '"+filepath.Join(e.dir, "journal")+"'\n")
	e.p = start(t, "--admin", admin, "-c", filepath.Join(e.dir, "idemproxy.yaml"))
	return e
}

func (e *night) write(name, text string) {
	e.t.Helper()
	file := filepath.Join(e.dir, name)
	err := os.MkdirAll(filepath.Dir(file), 0o700)
	if err == nil {
		err = os.WriteFile(file+".new", []byte(text), 0o700)
	}
	if err == nil {
		err = os.Rename(file+".new", file) // nobody reads half of it
	}
	if err != nil {
		e.t.Fatal(err)
	}
}

func (e *night) read(name string) string {
	e.t.Helper()
	text, err := os.ReadFile(filepath.Join(e.dir, name))
	if err != nil {
		e.t.Fatal(err)
	}
	return string(text)
}

// run runs a command of the runbook as it is printed.
func (e *night) run(line string) string {
	e.t.Helper()
	e.write("journal", e.earlier+e.p.text())
	cmd := exec.Command("bash", "-o", "pipefail", "-c", line)
	cmd.Dir = e.dir
	cmd.Env = append(os.Environ(), "PATH="+filepath.Join(e.dir, "bin")+":"+os.Getenv("PATH"),
		"IDEMPROXY_CONFIG="+filepath.Join(e.dir, "idemproxy.yaml"))
	out, _ := cmd.CombinedOutput()
	e.code = cmd.ProcessState.ExitCode()
	return string(out)
}

// blocks are the commands of a section, by the block that they are in.
func (e *night) blocks(section string) (all [][]string) {
	e.t.Helper()
	for _, b := range shellBlocks(section) {
		all = append(all, strings.Split(strings.TrimSpace(b.script), "\n"))
	}
	return all
}

// runBlock runs one of the section's blocks; every command has to succeed.
func (e *night) runBlock(section string, n int) (outs []string) {
	e.t.Helper()
	for _, line := range e.blocks(section)[n] {
		outs = append(outs, e.run(line))
		if e.code != 0 {
			e.t.Errorf("%s: exit code %d: %s", line, e.code, outs[len(outs)-1])
		}
	}
	return outs
}

// cause runs the section's first block. One of its first commands has to say all that is wanted.
func (e *night) cause(section string, want ...string) (outs []string) {
	e.t.Helper()
	for _, line := range e.blocks(section)[0] {
		outs = append(outs, e.run(line))
	}
	said := strings.Join(outs[:causeWithin], "")
	for _, w := range want {
		if !strings.Contains(said, w) {
			e.t.Errorf("after %d commands nothing says %q: %s", causeWithin, w, said)
		}
	}
	return outs
}

// shown is what the page shows of /status.
type shown struct {
	UnknownKeys float64            `json:"unknown_keys"`
	Requests    map[string]float64 `json:"requests"`
	Amiss       []struct{ Event, Text string }
}

func (e *night) status() (s shown) {
	e.t.Helper()
	e.get(e.p.adminURL+"/status", &s)
	return s
}

// amiss checks what the page's banner says.
func (e *night) amiss(event, text string) {
	e.t.Helper()
	for _, a := range e.status().Amiss {
		if a.Event == event && strings.Contains(a.Text, text) {
			return
		}
	}
	e.t.Errorf("the page does not say %s with %q: %v", event, text, e.status().Amiss)
}

// traffic posts that many requests, a few at a time, and returns the keys that were cut.
func (e *night) traffic(n int) (held []string) {
	keys, cut := make(chan string), make(chan string, n)
	done := make(chan struct{})
	const clients = 8
	for range clients {
		go func() {
			defer func() { done <- struct{}{} }()
			for key := range keys {
				if a, err := e.p.try("/", key); err != nil {
					e.t.Error(err)
				} else if a.status == http.StatusBadGateway {
					cut <- key
				}
			}
		}()
	}
	for i := range n {
		keys <- fmt.Sprintf("order-%d-charge", i)
	}
	close(keys)
	for range clients {
		<-done
	}
	close(cut)
	for key := range cut {
		held = append(held, key)
	}
	return held
}

func (e *night) get(url string, into any) {
	e.t.Helper()
	if !e.tryGet(url, into) {
		e.t.Fatalf("%s does not answer", url)
	}
}

// tryGet is get of what may not be there yet.
func (e *night) tryGet(url string, into any) bool {
	e.t.Helper()
	resp, err := http.Get(url) //nolint:noctx // a test
	if err != nil {
		return false
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return err == nil && json.Unmarshal(text, into) == nil
}
