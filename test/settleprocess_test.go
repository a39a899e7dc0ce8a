package test_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// backendProcess is a settleBackend as the test sees it: it is killed, stands still, and
// is started again on the same ports.
type backendProcess struct {
	t     *testing.T
	order settleBackendOrder
	cmd   *exec.Cmd     // of the one that runs
	ended chan struct{} // closed once that one has, and all that it said was read

	mu     sync.Mutex
	heard  sync.Cond      // signalled with each line
	said   map[string]int // guarded by mu: lines, of all processes
	did    map[string]int // guarded by mu: by mischief
	now    map[string]int // guarded by mu: lines without a name, of the one that runs
	faults map[string]int // guarded by mu: what was done to the process
	over   bool           // guarded by mu: nobody asks for work any more
	stderr bytes.Buffer   // to be read once it has ended
}

func newBackendProcess(t *testing.T, order settleBackendOrder) *backendProcess {
	t.Helper()
	order.Addr = fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	order.Endpoint = fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	p := &backendProcess{t: t, order: order, said: map[string]int{}, did: map[string]int{}, faults: map[string]int{}}
	p.heard.L = &p.mu
	p.start()
	t.Cleanup(func() { _ = p.cmd.Process.Kill(); <-p.ended })
	return p
}

// start runs it and waits until it is ready.
func (p *backendProcess) start() {
	p.t.Helper()
	p.order.Seed++ // another process makes other mischief
	order, err := json.Marshal(p.order)
	if err != nil {
		p.t.Fatal(err)
	}
	p.stderr.Reset()
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), settleBackendVariable+"="+string(order))
	p.cmd.Stderr = &p.stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	p.now = map[string]int{}
	p.mu.Unlock()
	ended := make(chan struct{})
	p.ended = ended
	go p.read(p.cmd, stdout, ended)
	if !p.await(func() bool { return p.now[saidReady] > 0 }) {
		_ = p.cmd.Process.Kill()
		<-ended
		p.t.Errorf("the backend does not start: %s", p.stderr.String())
	}
}

func (p *backendProcess) read(cmd *exec.Cmd, stdout io.Reader, ended chan struct{}) {
	defer close(ended)
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		said, what, _ := strings.Cut(lines.Text(), " ")
		p.mu.Lock()
		switch {
		case said == saidDid:
			p.did[what]++
		case what != "":
			p.said[lines.Text()]++
		default:
			p.now[said]++
		}
		p.heard.Broadcast()
		p.mu.Unlock()
	}
	_ = cmd.Wait()
	p.mu.Lock()
	p.heard.Broadcast()
	p.mu.Unlock()
}

// await waits for what is true with mu held, within patience.
func (p *backendProcess) await(is func() bool) bool {
	late := false
	timer := time.AfterFunc(patience, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		late = true
		p.heard.Broadcast()
	})
	defer timer.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	for !is() && !late {
		p.heard.Wait()
	}
	return is()
}

// count is how often a line was said.
func (p *backendProcess) count(line string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said[line]
}

// underWay is how many transactions it is in; mu is held.
func (p *backendProcess) underWay() int { return p.now[saidCharging] - p.now[saidCharged] }

// atWork waits until a transaction is under way, so that the work is hit, or until there
// is no work any more.
func (p *backendProcess) atWork(pause time.Duration) {
	p.await(func() bool { return p.underWay() > 0 || p.over })
	time.Sleep(pause)
}

// noMoreWork says that nobody asks for work any more.
func (p *backendProcess) noMoreWork() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	p.heard.Broadcast()
}

// kill ends it at once, mostly within transactions; mend starts it again.
func (p *backendProcess) kill() (mend func()) {
	_ = p.cmd.Process.Kill()
	<-p.ended
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults["the backend is killed"]++
	p.faults["a transaction is killed with it"] += p.underWay()
	return p.start
}

// stall makes it stand still; mend lets it go on.
func (p *backendProcess) stall() (mend func()) {
	_ = p.cmd.Process.Signal(syscall.SIGSTOP)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults["the backend stands still"]++
	return func() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }
}

// idle waits until no transaction is under way or to come.
func (p *backendProcess) idle() {
	p.t.Helper()
	if !p.await(func() bool { return p.underWay() == 0 && p.now[saidLate] == p.now[saidLateOver] }) {
		p.t.Error("the backend's transactions do not end")
	}
}

// figures are the mischiefs it did, and what was done to it.
func (p *backendProcess) figures() (did, faults map[string]int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.did), maps.Clone(p.faults)
}
