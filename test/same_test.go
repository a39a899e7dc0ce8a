package test_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"hash/fnv"
	"io"
	"iter"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/internal/dbtest"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// TestSameInEveryConfiguration plays one list of operations under settings that no
// client may notice, each with a backend that starts anew, and compares what clients
// were told with what they are told by the embedded store and the defaults
// (metamorphic testing: it is not said what is right, but that all must agree). Whom
// the proxy asks what became of a key makes a difference: there is one such answer for each.
func TestSameInEveryConfiguration(t *testing.T) {
	t.Parallel()
	postgres := dbtest.PostgreSQL(t)
	wants := map[doubts][]string{}
	for _, d := range []doubts{nobodyIsAsked, resolverIsAsked, receiptsAreAsked} {
		wants[d] = play(t, configuration{doubts: d}, nil, nil)
	}
	want := wants[nobodyIsAsked]
	if len(want) < 40 {
		t.Fatalf("only %d operations were played", len(want))
	}
	for _, told := range []string{"200 ", "422 ", "409 ", "413 ", "502 ", "400 ", "Idempotent-Replayed: true"} {
		if !slices.ContainsFunc(want, func(line string) bool { return strings.Contains(line, told) }) {
			t.Errorf("no operation was told %q", told)
		}
	}
	for d, about := range map[doubts]string{resolverIsAsked: "/did", receiptsAreAsked: "/receipts"} {
		if slices.Equal(wants[d], want) {
			t.Errorf("it makes no difference whether %s is asked", about)
		}
	}
	for name, some := range configurations() {
		t.Run(name, func(t *testing.T) { // one after the other: of what is parallel, the first one may begin last
			for _, c := range some {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					want := wants[c.doubts]
					if got := play(t, c, postgres, want); len(got) < len(want) {
						t.Errorf("operation %d:\n%s\nwant, as with the defaults,\n%s", len(got)+1, at(got, len(got)), at(want, len(got)))
					}
				})
			}
		})
	}
}

// configuration is a way to set up the service that must not change what clients see.
type configuration struct {
	name    string
	store   string // "" for the embedded one
	proxies int    // 0 for one
	args    func(t *testing.T) []string
	tls     bool // between client and proxy
	chunked bool // requests are sent without their length
	dribble bool // and a byte at a time
	closes  bool // each request has a connection of its own
	prefer  string
	doubts  doubts
	asksTLS bool // whom it asks is at an https:// URL
}

// doubts is whom the proxy asks what became of a key.
type doubts uint8

const (
	nobodyIsAsked doubts = iota
	resolverIsAsked
	receiptsAreAsked
)

// args are the proxy's for an endpoint of the backend's at that address.
func (d doubts) args(at string) []string {
	switch d {
	case nobodyIsAsked:
	case resolverIsAsked:
		return []string{"--on-ambiguous", "hold", "--resolver", at + "/did"}
	case receiptsAreAsked:
		return []string{"--on-ambiguous", "settle", "--receipts", at + "/receipts"}
	}
	return nil
}

// configurations are those that ask somebody, which are few, and then all others.
func configurations() iter.Seq2[string, []configuration] {
	return func(yield func(string, []configuration) bool) {
		_ = yield("asking", askingConfigurations()) && yield("plain", plainConfigurations())
	}
}

func flags(list ...string) func(*testing.T) []string {
	return func(*testing.T) []string { return list }
}

func plainConfigurations() []configuration {
	all := []configuration{
		{name: "defaults"},
		{name: "no cache", args: flags("--cache-size", "1B")},
		{name: "compressed", args: flags("--compress-from", "1B")},
		{name: "encrypted", args: encrypted},
		{name: "waits for nothing", args: flags("--max-wait", "0")},
		{name: "tls", tls: true},
		{name: "chunked", chunked: true},
		{name: "a byte at a time", chunked: true, dribble: true},
		{name: "connections of their own", closes: true},
		{name: "short leases", args: flags("--lock-ttl", "1200ms", "--heartbeat", "200ms")},
		{name: "remembered for long", args: flags("--retention", "8760h", "--remember", "87600h")},
		{name: "fails open", args: flags("--fail-open", "--fail-status", "503")},
		{name: "in the background", args: flags("--respond-async"), prefer: "respond-async, wait=60"},
		{name: "responses as they come", args: flags("--stream-responses")},
		{name: "health checks", args: flags("--health-path", "/total", "--health-interval", "100ms")},
	}
	for _, c := range slices.Clone(all) {
		for _, store := range []string{"redis", "postgres"} {
			shared := c
			shared.name, shared.store = store+", "+c.name, store
			all = append(all, shared)
			shared.name, shared.proxies = "three proxies, "+shared.name, 3
			all = append(all, shared)
		}
	}
	return all
}

func askingConfigurations() (all []configuration) {
	for _, d := range []doubts{resolverIsAsked, receiptsAreAsked} {
		name := [...]string{resolverIsAsked: "resolver", receiptsAreAsked: "receipts"}[d]
		all = append(all,
			configuration{name: name, doubts: d},
			configuration{name: name + " over TLS", doubts: d, asksTLS: true},
			configuration{name: name + ", no cache", doubts: d, args: flags("--cache-size", "1B")},
			configuration{name: "three proxies, redis, " + name, doubts: d, store: "redis", proxies: 3},
			configuration{name: "three proxies, redis, " + name + " over TLS", doubts: d, asksTLS: true, store: "redis", proxies: 3},
		)
	}
	return all
}

func encrypted(t *testing.T) []string {
	t.Helper()
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	file := filepath.Join(t.TempDir(), "keys")
	writeText(t, file, "first:"+base64.StdEncoding.EncodeToString(key)+"\n")
	return []string{"--encryption-keys", file, "--compress-from", "16B"}
}

// same is a service of some proxies, and who asks it.
type same struct {
	t       *testing.T
	config  configuration
	origin  *origin
	proxies []*process
	client  *http.Client
	asked   int
	told    []string
	want    []string // what is to be told; nil: anything
}

// play runs the list of operations and returns what clients were told. It ends the test when that
// is not what is wanted, if anything is.
func play(t *testing.T, c configuration, postgres *dbtest.Server, want []string) []string {
	t.Helper()
	s := &same{t: t, config: c, origin: c.doubts.origin(t), want: want}
	var args []string
	if c.args != nil {
		args = c.args(t)
	}
	asked, env := s.origin.url(), []string(nil)
	if c.asksTLS {
		var roots string
		asked, roots = behindTLS(t, s.origin.addr)
		env = []string{"SSL_CERT_FILE=" + roots}
	}
	args = append(args, c.doubts.args(asked)...)
	store := "embedded:" + t.TempDir()
	switch c.store {
	case "redis":
		store = redistest.Start(t).URL()
	case "postgres":
		store = postgres.Database(t)
	}
	transport := &http.Transport{DisableCompression: true, DisableKeepAlives: c.closes}
	if c.tls {
		cert, key, roots := serverCertificate(t)
		args = append(args, "--tls-cert", cert, "--tls-key", key)
		transport.TLSClientConfig = &tls.Config{RootCAs: roots, ServerName: serviceHost, MinVersion: tls.VersionTLS12}
	}
	t.Cleanup(transport.CloseIdleConnections)
	s.client = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for range max(1, c.proxies) {
		args := append([]string{"--listen", "127.0.0.1:0", "--backend", s.origin.url(), "--store", store}, args...)
		s.proxies = append(s.proxies, launch{binary: binary, env: env}.start(t, args...))
	}
	s.all()
	return s.told
}

// operation is one request.
type operation struct {
	method, path, key, body string
	header                  []string // name, value, ...
}

// all are the operations, in their order. What overlaps is begun by begin.
func (s *same) all() {
	post := func(path, key, body string, header ...string) { s.do(operation{"POST", path, key, body, header}) }
	for range 2 { // and its replay
		post("/", "plain", "amount=5")
	}
	post("/", "plain", "amount=6")
	post("/", `"plain"`, "amount=5")
	post("/other", "plain", "amount=5")
	post("/?a=1", "plain", "amount=5")
	post("/", "plain", "amount=5", "Content-Type", "application/json")
	post("/", "plain", "amount=5", "Authorization", "Bearer somebody")
	post("/", "", "amount=5", "X-Idempotency-Key", "plain")
	post("/", "plain", "amount=5", "X-Idempotency-Key", "other")
	post("/", "two\twords", "amount=5")
	post("/", strings.Repeat("k", 256), "amount=5")
	post("/", strings.Repeat("k", 255), "")
	post("/", "", "no key")
	for _, method := range []string{"GET", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"} {
		for range 2 {
			s.do(operation{method: method, path: "/methods", key: "method-" + method})
		}
	}
	s.do(operation{method: "HEAD", path: "/methods", key: "method-GET"})
	for _, status := range []string{"201", "204", "301", "400", "404", "429", "500", "502", "503", "504"} {
		for range 2 {
			post("/status/"+status, "status-"+status, "x")
		}
	}
	for _, size := range []string{"1", "70000", "1048576", "1048577"} {
		for range 3 {
			post("/size/"+size, "size-"+size, "x")
		}
	}
	post("/", "large", strings.Repeat("b", 1<<20))
	post("/", "large", strings.Repeat("b", 1<<20))
	post("/", "larger", strings.Repeat("b", 1<<20+1))
	for range 3 {
		post("/cut", "cut", "x")
	}
	for range 2 {
		post("/cut?executed=1", "cut-executed", "x")
	}
	for range 2 {
		post("/packed", "packed", "x")
		post("/?set=Set-Cookie:a%3Db&set=X-Own:1&set=Cache-Control:no-store&set=Connection:X-Own", "fields", "x")
		post("/", "tail", "x", "Range", "bytes=0-3", "If-None-Match", "*", "Accept-Encoding", "gzip")
	}
	post("/", "waiting", "x", "Prefer", "wait=0")
	s.overlap()
	post("/a/../b", "dots", "x")
	post("/", "expect", "x", "Expect", "100-continue")
	s.executions()
}

// overlap asks for a key that is in progress.
func (s *same) overlap() {
	first := make(chan string, 1)
	slow := operation{"POST", "/slow?d=1500ms", "slow", "x", nil}
	go func() { first <- s.answerTo(s.next(), slow) }()
	eventually(s.t, "the backend starts on slow", func() bool { return s.origin.Count("slow").Started > 0 || len(first) > 0 })
	impatient := slow
	impatient.header = []string{"Prefer", "wait=0"}
	s.do(impatient)
	other := slow
	other.body = "y"
	s.do(other)
	s.tell(<-first)
	s.do(slow)
}

// executions tells how often each key was executed.
func (s *same) executions() {
	for _, key := range []string{"plain", "large", "larger", "cut", "cut-executed", "status-500", "status-503", "size-1048577", "slow", "method-GET", "fields"} {
		count := s.origin.Count(key)
		s.tell(fmt.Sprintf("%s: %d executions, %d started", key, count.Executions, count.Started))
	}
}

func (s *same) next() *process {
	s.asked++
	return s.proxies[s.asked%len(s.proxies)]
}

func (s *same) do(o operation) { s.tell(s.answerTo(s.next(), o)) }

// tell notes what a client was told. What comes after a difference would say nothing more, and can
// take minutes.
func (s *same) tell(line string) {
	s.t.Helper()
	i := len(s.told)
	if s.told = append(s.told, line); s.want != nil && line != at(s.want, i) {
		s.t.Fatalf("operation %d:\n%s\nwant, as with the defaults,\n%s", i+1, line, at(s.want, i))
	}
}

// answerTo is what a client sees of the answer, without what is new each time.
func (s *same) answerTo(p *process, o operation) string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	url := p.url
	if s.config.tls {
		url = "https" + strings.TrimPrefix(url, "http")
	}
	req, err := http.NewRequestWithContext(ctx, o.method, url, s.bodyOf(o))
	if err != nil {
		return err.Error()
	}
	req.URL.Opaque = o.path // as it is written
	req.Host = serviceHost
	if o.key != "" {
		req.Header.Set("Idempotency-Key", o.key)
	}
	if s.config.prefer != "" && !slices.Contains(o.header, "Prefer") {
		req.Header.Set("Prefer", s.config.prefer)
	}
	for i := 0; i+1 < len(o.header); i += 2 {
		req.Header.Set(o.header[i], o.header[i+1])
	}
	name := fmt.Sprintf("%s %s %.20q %d bytes %q: ", o.method, o.path, o.key, len(o.body), o.header)
	resp, err := s.client.Do(req)
	if err != nil {
		return name + "no answer: " + strings.ReplaceAll(err.Error(), url, "")
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	return name + seen(resp, body, err)
}

func (s *same) bodyOf(o operation) io.Reader {
	switch {
	case o.body == "":
		return nil
	case s.config.dribble && len(o.body) < 100:
		return struct{ io.Reader }{&dribble{o.body}}
	case s.config.chunked:
		return struct{ io.Reader }{strings.NewReader(o.body)} // a reader of unknown length
	}
	return strings.NewReader(o.body)
}

// dribble gives a byte at a time.
type dribble struct{ rest string }

func (d *dribble) Read(p []byte) (int, error) {
	if d.rest == "" {
		return 0, io.EOF
	}
	n := copy(p[:1], d.rest)
	d.rest = d.rest[n:]
	return n, nil
}

func seen(resp *http.Response, body []byte, err error) string {
	var fields []string
	for name, values := range resp.Header {
		if !slices.Contains([]string{"Date", "X-Request-Id", "Connection"}, name) {
			fields = append(fields, name+": "+strings.Join(values, " | "))
		}
	}
	slices.Sort(fields)
	text := string(body)
	if len(text) > 400 {
		sum := fnv.New64a()
		_, _ = sum.Write(body)
		text = fmt.Sprintf("%d bytes, %x", len(body), sum.Sum64())
	}
	return fmt.Sprintf("%d %s %q (length %d, %v)", resp.StatusCode, fields, text, resp.ContentLength, err)
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "nothing"
}
