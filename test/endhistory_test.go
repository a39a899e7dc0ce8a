package test_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/internal/dbtest"
	"github.com/idemproxy/idemproxy/internal/toxitest"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
	"github.com/idemproxy/idemproxy/receipt"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

const (
	// A lease that was proved so lately is not asked for again before its request is forwarded.
	endHeartbeat = 500 * time.Millisecond
	// endBackend is longer than the machine stands still: every backend of these tests answers, or breaks off.
	endBackend = "15s"

	endLease  = 5 * time.Second // of a proxy that was killed; the machine may stand still for nearly as long
	endCaller = "Bearer somebody"
	endLag    = time.Second // within which a proxy's cache learns what others did
	endWait   = 3 * time.Second
	// endWoken is within which who waits is told that the key is decided.
	endWoken = endWait / 2
)

// endPatient is a preference of clients.
const endPatient = "wait=3"

// endRun is one history at the client's end: proxies, who asks them, and what was told.
type endRun struct {
	t       *testing.T
	policy  string
	builds  []string // of the proxies; one that is killed is followed by the next build
	file    string   // settings, which are reloaded
	backend *backendtest.Backend
	proxies []*endProxy
	begun   time.Time
	seed    uint64
	faulty  bool
	calls   *storeCalls // nil where earlier builds are among the proxies, which have no log

	serial atomic.Int64
	mu     sync.Mutex
	asked  map[int]*endRequest // guarded by mu; with it, what it holds
	acts   []endOp             // guarded by mu

	receipts map[string]endReceipt // guarded by mu; by the token of the attempt
}

// endReceipt is what the backend keeps of an attempt.
type endReceipt struct {
	executed bool // or voided
	body     string
}

type endProxy struct {
	addr  string
	build int // which of endRun.builds runs
	args  []string
	links *toxitest.Link // to the store; nil for the embedded one

	restarting sync.Mutex // held by who replaces the process

	mu       sync.Mutex
	run      *process        // guarded by mu
	troubles []time.Duration // guarded by mu; when a link or the process broke, and when it was whole again
	delays   []time.Duration // guarded by mu; likewise, when it was late or deferred what it did
	lapses   []time.Duration // guarded by mu; likewise, when leases may have lapsed
}

// endRequest is one request of a client.
type endRequest struct {
	number, payload int
	key, act        string
	proxy           *endProxy
	call, ret       time.Duration
	arrived         time.Duration // at the backend; 0: not
	done            bool          // the backend did what it asks
	left            bool          // the client had no answer
	unsent          bool          // nobody listened
	status          int
	problem, body   string
	state           string // that a question was told
	replayed        bool
	question        bool
	waits           bool // for endWait, if the key is in progress
}

// endOp is an operation of the history.
type endOp struct {
	endInput
	call, ret time.Duration // ret 0: without end
}

func (r *endRun) now() time.Duration { return time.Since(r.begun) }

func newEndRun(t *testing.T, kind, policy string, faulty bool, builds ...string) *endRun {
	t.Helper()
	r := &endRun{
		t: t, policy: policy, faulty: faulty, builds: append(builds, binary), begun: time.Now(), seed: endSeed(),
		asked: map[int]*endRequest{}, receipts: map[string]endReceipt{},
	}
	if len(builds) == 0 {
		r.calls = newStoreCalls(t, kind, endLag)
	}
	r.backend = backendtest.Start(t, r.respond)
	r.file = t.TempDir() + "/idemproxy.yaml"
	r.settings("body", "reject")
	stores := []string{"embedded:" + t.TempDir()}
	var addr string
	switch kind {
	case "redis":
		server := redistest.Start(t)
		stores, addr = []string{"redis://%s/0", "redis://%s/0"}, server.Addr
	case "postgres":
		server := dbtest.StartPostgres(t)
		stores, addr = []string{"postgres://postgres@%s/postgres", "postgres://postgres@%s/postgres"}, server.Addr
	}
	storeTimeout := "4s" // the machine may stand still, and nobody cuts the link
	if faulty {
		storeTimeout = "1s"
	}
	for i, store := range stores {
		p := &endProxy{addr: fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t)), build: i % len(r.builds)}
		if addr != "" {
			p.links = toxitest.New(t, addr)
			store = fmt.Sprintf(store, p.links.Addr)
		}
		p.args = []string{
			"-c", r.file, "--listen", p.addr, "--store", store, "--backend", r.backend.URL(), "--on-ambiguous", policy,
			"--lock-ttl", endLease.String(), "--heartbeat", endHeartbeat.String(), "--store-timeout", storeTimeout, "--backend-timeout", endBackend,
			"--max-wait", endWait.String(),
		}
		if policy == "settle" {
			p.args = append(p.args, "--receipts", r.backend.URL()+"/receipts", "--settle-every", "1s")
		}
		p.run = r.calls.start(t, launch{binary: r.builds[p.build]}, p.args...)
		r.proxies = append(r.proxies, p)
	}
	return r
}

// settings writes the file anew: by which recipe bodies are compared, and what a request
// gets whose key is in progress. The clients' bodies are the same by either recipe.
func (r *endRun) settings(recipe, inProgress string) {
	whole := r.file + ".new" // a reload may be reading
	writeText(r.t, whole, "fingerprint: [method, target, "+recipe+"]\nrespond_async: true\nstream_responses: true\nin_progress: "+inProgress+"\n")
	if err := os.Rename(whole, r.file); err != nil {
		r.t.Error(err)
	}
}

// respond does to a request what its client wants the backend to do.
func (r *endRun) respond(c backendtest.Conn, q *backendtest.Request) {
	if q.Method != http.MethodPost {
		r.answerReceipt(c, q.Header.Get(receipt.HeaderAttempt), q.Method == http.MethodPut)
		return
	}
	number, err := strconv.Atoi(q.Header.Get("X-Request-Id"))
	r.mu.Lock()
	request := r.asked[number]
	switch {
	case err != nil || request == nil:
		r.t.Errorf("the backend got a request that nobody made: %v", q.Header)
		request = &endRequest{} // it is counted nowhere
	case request.arrived != 0:
		r.t.Errorf("request %d for key %s was forwarded twice", number, request.key)
	default:
		request.arrived = r.now()
	}
	r.mu.Unlock()
	act, wait, _ := strings.Cut(q.Header.Get("X-Act"), " ")
	if d, err := time.ParseDuration(wait); err == nil {
		time.Sleep(d) // the work
	}
	body := fmt.Sprint("request ", number)
	if act != "lost" && act != "busy" && !r.execute(request, q.Header.Get(receipt.HeaderAttempt), body) {
		c.Answer(http.StatusConflict, "", receipt.HeaderOutcome+": "+receipt.OutcomeVoided)
		return
	}
	answerAs(c, act, body)
}

// answerAs answers as the client wants it.
func answerAs(c backendtest.Conn, act, body string) {
	const executed = receipt.HeaderOutcome + ": " + receipt.OutcomeExecuted
	head := "HTTP/1.1 200 OK\r\n" + executed + "\r\nContent-Type: text/plain\r\n"
	switch act {
	case "cut", "lost":
		c.Reset()
	case "break":
		c.Raw(head + "Content-Length: 100\r\n\r\n" + body)
		c.Reset()
	case "busy":
		c.Answer(http.StatusServiceUnavailable, body)
	case "pieces":
		c.Raw(fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(body), body[:5]))
		time.Sleep(20 * time.Millisecond) // so that somebody joins
		c.Raw(body[5:])
	case "moved":
		c.Answer(http.StatusTemporaryRedirect, body, executed, "Location: /paid")
	case "stream", "tear":
		c.Raw(head + "Transfer-Encoding: chunked\r\n\r\n")
		for _, piece := range strings.SplitAfter(body, " ") {
			c.Raw(fmt.Sprintf("%x\r\n%s\r\n", len(piece), piece))
			time.Sleep(5 * time.Millisecond) // it comes slowly
		}
		if act == "tear" {
			c.Reset()
		}
		c.Raw("0\r\n\r\n")
	default:
		c.Answer(http.StatusOK, body, executed, "Content-Type: text/plain")
	}
}

// execute does the work of a request, unless its attempt was voided.
func (r *endRun) execute(q *endRequest, attempt, body string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if attempt != "" {
		if _, voided := r.receipts[attempt]; voided {
			return false
		}
		r.receipts[attempt] = endReceipt{executed: true, body: body}
	}
	q.done = true
	return true
}

// answerReceipt tells what became of an attempt. A PUT voids one that was not executed.
func (r *endRun) answerReceipt(c backendtest.Conn, attempt string, voids bool) {
	r.mu.Lock()
	kept, there := r.receipts[attempt]
	if voids {
		r.receipts[attempt] = kept
	}
	r.mu.Unlock()
	switch {
	case !there && !voids:
		c.Answer(http.StatusNotFound, "")
		return
	case !kept.executed:
		c.Raw("HTTP/1.1 204 No Content\r\n" + receipt.HeaderOutcome + ": " + receipt.OutcomeVoided + "\r\n\r\n")
		return
	}
	c.Answer(http.StatusOK, kept.body, receipt.HeaderOutcome+": "+receipt.OutcomeExecuted, receipt.HeaderStatus+": 200", "Content-Type: text/plain")
}

// ask sends a request and notes what came of it.
func (r *endRun) ask(p *endProxy, key string, payload int, act, prefer string, patience time.Duration) *endRequest {
	q := &endRequest{
		number: int(r.serial.Add(1)), key: key, payload: payload, act: act, proxy: p, call: r.now(),
		waits: strings.Contains(prefer, endPatient),
	}
	r.mu.Lock()
	r.asked[q.number] = q
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	body := []string{`{"amount":5}`, `{"amount":6}`, `{"amount":5}`, `{"amount":5}`}[payload]
	path := []string{"/pay", "/pay", "/pay", "/paid"}[payload]
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.addr+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Host = []string{serviceHost, serviceHost, "other.test", serviceHost}[payload]
	for name, value := range map[string]string{
		"Idempotency-Key": key, "X-Request-Id": strconv.Itoa(q.number), "X-Act": act, "Prefer": prefer, "Content-Type": "application/json",
		"Authorization": endCaller,
	} {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	r.note(q, req)
	if q.unsent { // a client that does not wait would have asked all it asks before the proxy is there again
		time.Sleep(50 * time.Millisecond)
	}
	return q
}

// note sends a request and notes the answer.
func (r *endRun) note(q *endRequest, req *http.Request) {
	status, header, text, err := endDo(req)
	var told struct{ Type, State string }
	_ = json.Unmarshal(text, &told) // of another media type, it is none
	r.mu.Lock()
	defer r.mu.Unlock()
	q.ret, q.left, q.unsent = r.now(), err != nil, nobodyListens(err)
	q.status, q.body, q.replayed = status, string(text), header.Get("Idempotent-Replayed") == "true"
	q.problem, q.state = told.Type[strings.LastIndexAny(told.Type, "/#:")+1:], told.State
}

// question asks what became of a key, or for its response.
func (r *endRun) question(p *endProxy, key string, response bool) {
	q := &endRequest{number: int(r.serial.Add(1)), key: key, payload: anyPayload, question: true, proxy: p, call: r.now()}
	r.mu.Lock()
	r.asked[q.number] = q
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	target := "http://" + p.addr + "/.idemproxy/outcomes?key=" + url.QueryEscape(key)
	if response {
		target += "&show=response"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Host = serviceHost
	req.Header.Set("Authorization", endCaller)
	r.note(q, req)
}

// endDo asks on a connection of its own: the transport would repeat a request with a key
// on one that broke.
func endDo(req *http.Request) (status int, header http.Header, body []byte, err error) {
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: stay}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, body, err
}

// nobodyListens says of an error that nothing was sent.
func nobodyListens(err error) bool {
	var failed *net.OpError
	return errors.As(err, &failed) && failed.Op == "dial"
}

// admin asks a proxy's admin listener as an operator does. Status 0: no answer; below:
// nobody listened.
func (p *endProxy) admin(method, path string, change map[string]any) (status int, told map[string]any) {
	p.mu.Lock()
	base := p.run.adminURL
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	body, _ := json.Marshal(change)
	req, err := http.NewRequestWithContext(ctx, method, base+path, strings.NewReader(string(body)))
	if err != nil {
		return 0, nil
	}
	req.Header.Set("Content-Type", "application/json")
	status, _, text, err := endDo(req)
	switch {
	case nobodyListens(err):
		return -1, nil
	case err != nil:
		return 0, nil
	}
	_ = json.Unmarshal(text, &told)
	return status, told
}

// operate is one act of an operator on a key.
func (r *endRun) operate(p *endProxy, key string, rng *rand.Rand) {
	r.operateBy(p, key, rng.IntN(6), rng)
}

// operateBy is operate by the number of what is done: 0 purges, 1 takes, the others resolve.
func (r *endRun) operateBy(p *endProxy, key string, what int, rng *rand.Rand) {
	op := endOp{endInput: endInput{key: key, request: -int(r.serial.Add(1)), settles: r.policy == "settle"}, call: r.now()}
	change := map[string]any{"key": key, "confirm": true}
	path := ""
	switch what {
	case 0:
		op.act, path = endPurge, "/keys/purge"
	case 1:
		status, record := p.admin(http.MethodGet, "/keys?key="+url.QueryEscape(key), nil)
		if status != http.StatusOK || record["state"] != "in-progress" {
			return
		}
		op.act, path, change["owner"] = endTake, "/keys/release", record["owner"]
	case 2:
		op.act, path, change["action"] = endRetry, "/keys/resolve", "retry"
	case 3:
		op.act, path, change["action"] = endComplete, "/keys/resolve", "complete"
		change["status"], change["body"] = http.StatusOK, fmt.Appendf(nil, "request %d", op.request)
	default:
		if op.owner = r.heldBy(p, key); op.owner == "" {
			return
		}
		time.Sleep(time.Duration(rng.IntN(int(100 * time.Millisecond)))) // finds out what became of that attempt
		op.act, path, op.call = endRetry, "/keys/resolve", r.now()
		change["action"], change["owner"] = "retry", op.owner
	}
	status, told := p.admin(http.MethodPost, path, change)
	op.ret = r.now()
	switch {
	case status == http.StatusOK:
	case status == http.StatusNotFound && op.act == endPurge:
		op.act = endPurgeNone
	case status < 0, status == http.StatusNotFound, status == http.StatusConflict: // nothing was done
		return
	case r.faulty: // nobody knows
		op.fates, op.ret = fateStays, 0
	default:
		r.t.Errorf("%s of %s: %d %v", path, key, status, told)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.acts = append(r.acts, op)
}

// heldBy is an operator's look at who left a key unknown; empty if nobody has.
func (r *endRun) heldBy(p *endProxy, key string) string {
	op := endOp{endInput: endInput{act: endLook, key: key, request: -int(r.serial.Add(1)), settles: r.policy == "settle"}, call: r.now()}
	status, record := p.admin(http.MethodGet, "/keys?key="+url.QueryEscape(key), nil)
	op.owner, _ = record["owner"].(string)
	op.ret = r.now()
	if status != http.StatusOK || record["state"] != "unknown" || op.owner == "" {
		return ""
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.acts = append(r.acts, op)
	return op.owner
}

// client asks for some of the keys, a few dozen times, and sometimes is an operator.
func (r *endRun) client(keys []string, seed uint64) {
	rng := rand.New(rand.NewPCG(r.seed, seed))
	pick := func(list ...string) string { return list[rng.IntN(len(list))] }
	for range 10 {
		p, key := r.proxies[rng.IntN(len(r.proxies))], keys[rng.IntN(len(keys))]
		if rng.IntN(6) == 0 {
			r.operate(p, key, rng)
			continue
		}
		if rng.IntN(8) == 0 {
			r.question(p, key, rng.IntN(2) == 0)
			continue
		}
		patience := 20 * time.Second
		if rng.IntN(20) == 0 {
			patience = time.Duration(rng.IntN(int(30 * time.Millisecond)))
		}
		act := pick("ok", "ok", "ok 5ms", "ok 30ms", "pieces 5ms", "pieces 30ms", "cut", "cut 5ms", "lost 5ms", "break", "busy", "moved", "stream", "stream", "tear")
		payload := max(0, rng.IntN(12)-9)
		q := r.ask(p, key, payload, act, pick("", "", endPatient, "respond-async", "respond-async, "+endPatient), patience)
		if q.status == http.StatusTemporaryRedirect { // it follows, with the key that it has
			r.ask(p, key, followed, "ok", "", patience)
		}
	}
}

// faults breaks links and processes, and reloads, until the clients are ready.
func (r *endRun) faults(done <-chan struct{}) {
	rng := rand.New(rand.NewPCG(r.seed, 0))
	for i := 0; ; i++ {
		select {
		case <-done:
			return
		case <-time.After(time.Duration(100+rng.IntN(300)) * time.Millisecond):
		}
		p := r.proxies[rng.IntN(len(r.proxies))]
		switch act := rng.IntN(4); {
		case act == 0 || !r.faulty:
			r.settings([]string{"json", "body"}[i%2], []string{"reject", "join", "wait"}[rng.IntN(3)])
			p.restarting.Lock()
			p.run.signal(syscall.SIGHUP)
			p.restarting.Unlock()
		case act == 1 && i%2 == 0:
			r.replace(p)
		case p.links != nil:
			p.trouble(r.now())
			remove := p.links.Add("cut", "limit_data", []string{"upstream", "downstream"}[rng.IntN(2)],
				fmt.Sprintf(`{"bytes":%d}`, rng.IntN(3000)))
			time.Sleep(50 * time.Millisecond) // for so long it is cut
			remove()
			p.trouble(r.now() + time.Second)
		}
	}
}

// replace kills a proxy and starts the next build in its place.
func (r *endRun) replace(p *endProxy) {
	p.restarting.Lock()
	defer p.restarting.Unlock()
	p.trouble(r.now())
	p.run.kill()
	p.build = (p.build + 1) % len(r.builds)
	next := r.calls.start(r.t, launch{binary: r.builds[p.build]}, p.args...)
	p.mu.Lock()
	p.run = next
	p.mu.Unlock()
	p.trouble(r.now() + time.Second)
}

func (p *endProxy) trouble(at time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.troubles = append(p.troubles, at)
}

// troubled says whether the proxy was, at some time of a request's.
func (p *endProxy) troubled(from, to time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return meets(p.troubles, from, to)
}

// delayed likewise.
func (p *endProxy) delayed(from, to time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return meets(p.delays, from, to)
}

// lapsed says whether leases may have lapsed that the proxy had.
func (p *endProxy) lapsed(from, to time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return meets(p.lapses, from, to)
}

// meets says whether any of the windows, which are pairs, is open at some time between.
func meets(windows []time.Duration, from, to time.Duration) bool {
	for i := 0; i+1 < len(windows); i += 2 {
		if windows[i] <= to && from <= windows[i+1] {
			return true
		}
	}
	return false
}

// settle asks until the key has an end: what nobody works on any more must have one.
func (r *endRun) settle(key string) error {
	var last *endRequest
	for range 40 {
		last = r.ask(r.proxies[len(r.proxies)-1], key, 0, "ok", "wait=2", 20*time.Second)
		if last.status == http.StatusOK || last.status == http.StatusTemporaryRedirect || last.problem == "key-reused" || last.problem == "outcome-unknown" {
			return nil
		}
		time.Sleep(200 * time.Millisecond)
	}
	return errors.New("the key has no end: " + last.problem)
}
