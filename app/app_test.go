package app_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/app"
	"github.com/idemproxy/idemproxy/cli"
	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

type log struct {
	mu sync.Mutex
	bytes.Buffer
	more chan struct{} // closed at the next write; nil while nobody waits; guarded by mu
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.more != nil {
		close(l.more)
		l.more = nil
	}
	return l.Buffer.Write(p)
}

// await returns once text is in the log.
func (l *log) await(t *testing.T, text string) {
	t.Helper()
	l.awaitTimes(t, text, 1)
}

// awaitTimes returns once text is in the log that often.
func (l *log) awaitTimes(t *testing.T, text string, times int) {
	t.Helper()
	for inVain := time.After(30 * time.Second); ; {
		l.mu.Lock()
		if strings.Count(l.String(), text) >= times {
			l.mu.Unlock()
			return
		}
		if l.more == nil {
			l.more = make(chan struct{})
		}
		more := l.more
		l.mu.Unlock()
		select {
		case <-more:
		case <-inVain:
			t.Fatalf("the log has no %s:\n%s", text, l.text())
		}
	}
}

func (l *log) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.String()
}

func run(t *testing.T, level zerolog.Level, backend string, change ...func(*config.Config)) (*app.App, *log) {
	t.Helper()
	out := &log{}
	return runOn(t, zerolog.New(out).Level(level), backend, change...), out
}

// runOn is run with another logger.
func runOn(t *testing.T, logger zerolog.Logger, backend string, change ...func(*config.Config)) *app.App {
	t.Helper()
	return runConfig(t, logger, configOf(t, backend, change...))
}

// configOf is for a proxy of its own ports and directory.
func configOf(t *testing.T, backend string, change ...func(*config.Config)) config.Config {
	t.Helper()
	c := config.Default()
	c.Listen, c.Admin, c.Store, c.Backends = []string{"127.0.0.1:0"}, "127.0.0.1:0", "embedded:"+t.TempDir(), []string{backend}
	for _, f := range change {
		f(&c)
	}
	return c
}

func runConfig(t *testing.T, logger zerolog.Logger, c config.Config) *app.App {
	t.Helper()
	a, _ := runUntil(t, logger, c)
	return a
}

// runUntil is runConfig for a test that ends the proxy itself; what it logs is whole then.
func runUntil(t *testing.T, logger zerolog.Logger, c config.Config) (a *app.App, end func()) {
	t.Helper()
	a, err := app.New(c, logger)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	end = sync.OnceFunc(func() {
		cancel()
		http.DefaultClient.CloseIdleConnections()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(end)
	return a, end
}

func post(t *testing.T, url, key, body string) int {
	t.Helper()
	req, _ := http.NewRequest(http.MethodPost, url, strings.NewReader(body)) //nolint:noctx // a test
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

func send(t *testing.T, url, key string) (status int, body, replayed string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "a.example" // whatever port the proxy is at
	req.Header.Set("Idempotency-Key", key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text), resp.Header.Get("Idempotent-Replayed")
}

// command runs the command line and returns its exit code and output.
func command(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = cli.Main(context.Background(), args, &stdout, &stderr)
	return code, stdout.String() + stderr.String()
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "idemproxy.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// metrics reads all values of ours.
func metrics(t *testing.T, a *app.App) map[string]float64 {
	t.Helper()
	resp, err := http.Get(a.AdminURL() + "/metrics") //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	values := map[string]float64{}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, text, _ := strings.Cut(lines.Text(), " ")
		var v float64
		if _, err := fmt.Sscan(text, &v); err == nil && strings.HasPrefix(name, "idemproxy_") {
			values[strings.TrimPrefix(name, "idemproxy_")] = v
		}
	}
	return values
}

// Every request moves the metrics that it should, and no others.
func TestMetricsByValue(t *testing.T) {
	t.Parallel()
	b := backendtest.Start(t, func(c backendtest.Conn, q *backendtest.Request) {
		switch q.URL.Path {
		case "/cut":
			_ = c.Close()
		case "/503":
			c.Answer(503, "later")
		default:
			backendtest.OK(c, q)
		}
	})
	a, _ := run(t, zerolog.Disabled, b.URL())
	for _, c := range []struct {
		name, path, key, body string
		moved                 map[string]float64
	}{
		{"passed", "/", "", "x", map[string]float64{`requests_total{outcome="passed",route="default"}`: 1}},
		{"executed", "/", "k", "x", map[string]float64{
			`requests_total{outcome="executed",route="default"}`: 1, "cache_misses_total": 1, "responses_stored_total": 1,
			"backend_duration_seconds_count":                     1,
			`store_duration_seconds_count{operation="acquire"}`:  1,
			`store_duration_seconds_count{operation="complete"}`: 1,
		}},
		{"replayed from the store", "/", "k", "x", map[string]float64{
			`requests_total{outcome="replayed-store",route="default"}`: 1, `cache_hits_total{source="store"}`: 1,
			`store_duration_seconds_count{operation="acquire"}`: 1,
		}},
		{"replayed from memory", "/", "k", "x", map[string]float64{
			`requests_total{outcome="replayed-local",route="default"}`: 1, `cache_hits_total{source="local"}`: 1,
		}},
		{"mismatch", "/", "k", "y", map[string]float64{`requests_total{outcome="mismatch",route="default"}`: 1}},
		{"refused", "/", strings.Repeat("k", 256), "x", map[string]float64{`requests_total{outcome="refused",route="default"}`: 1}},
		{"cut", "/cut", "cut", "x", map[string]float64{
			`requests_total{outcome="backend-cut",route="default"}`: 1, "cache_misses_total": 1, `releases_total{cause="ambiguous"}`: 1,
			"backend_duration_seconds_count":                    1,
			`store_duration_seconds_count{operation="acquire"}`: 1, `store_duration_seconds_count{operation="release"}`: 1,
		}},
		{"try again", "/503", "later", "x", map[string]float64{
			`requests_total{outcome="executed",route="default"}`: 1, "cache_misses_total": 1, `releases_total{cause="try-again"}`: 1,
			"backend_duration_seconds_count":                    1,
			`store_duration_seconds_count{operation="acquire"}`: 1, `store_duration_seconds_count{operation="release"}`: 1,
		}},
	} {
		before := metrics(t, a)
		for math.IsNaN(before["unknown_keys"]) { // the store has not been counted yet
			time.Sleep(time.Millisecond)
			before = metrics(t, a)
		}
		post(t, a.URL()+c.path, c.key, c.body)
		after := metrics(t, a)
		c.moved["request_duration_seconds_count"] = 1
		for name, v := range after {
			if strings.Contains(name, "_bucket") || strings.HasSuffix(name, "_sum") || strings.Contains(name, "_sum{") ||
				strings.Contains(name, "bytes_total") {
				continue
			}
			if moved := v - before[name]; moved != c.moved[name] {
				t.Errorf("%s: %s moved by %v, want %v", c.name, name, moved, c.moved[name])
			}
		}
	}
}

// Logs tell what happened without giving keys, queries, bodies or credentials
// away; at debug level the key is readable.
func TestLogsKeepSecrets(t *testing.T) {
	t.Parallel()
	for level, readable := range map[zerolog.Level]bool{zerolog.InfoLevel: false, zerolog.DebugLevel: true} {
		b := backendtest.Start(t, backendtest.OK)
		a, out := run(t, level, b.URL())
		post(t, a.URL()+"/pay?token=secret-query", "secret-key", "secret-body")
		text := out.text()
		for _, secret := range []string{"secret-query", "secret-body"} {
			if strings.Contains(text, secret) {
				t.Errorf("%v: the log holds %s:\n%s", level, secret, text)
			}
		}
		if strings.Contains(text, "secret-key") != readable {
			t.Errorf("%v: the key is readable: %v, want %v:\n%s", level, !readable, readable, text)
		}
		if n := strings.Count(text, `"event":"request"`); n != 1 || !strings.Contains(text, `"outcome":"executed"`) {
			t.Errorf("%v: %d lines for one request:\n%s", level, n, text)
		}
	}
}

// Nobody writes lines of their own into the log, nor tells the terminal of who
// reads it what to do, by what stands in a request: in either format.
func TestLogsCannotBeForged(t *testing.T) {
	t.Parallel()
	b := backendtest.Start(t, backendtest.OK)
	for name, format := range map[string]func(io.Writer) io.Writer{
		"json":    func(w io.Writer) io.Writer { return w },
		"console": func(w io.Writer) io.Writer { return zerolog.ConsoleWriter{Out: w, NoColor: true} },
	} {
		out := &log{}
		a := runOn(t, zerolog.New(format(out)).Level(zerolog.DebugLevel), b.URL())
		conn, err := net.Dial("tcp", strings.TrimPrefix(a.URL(), "http://"))
		if err != nil {
			t.Fatal(err)
		}
		// A key and a path of every byte that gets through, C1 controls in it
		// (0x9b starts what ESC [ does), quotes, and what looks like a line.
		for _, line := range []string{
			"GET /\x9b31m\x85\xc2\x9b HTTP/1.1\r\nHost: x\r\n", "GET /%0a%1b{\"event\":\"forged\"} HTTP/1.1\r\nHost: x\r\n",
			"GET / HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\",\"event\":\"forged\r\n", "FORGED\x1b[2J / HTTP/1.1\r\nHost: x\r\n",
		} {
			_, _ = io.WriteString(conn, line+"\r\n")
		}
		_, _ = io.Copy(io.Discard, conn) // the last one closes it
		_ = conn.Close()
		text := out.text()
		for i, c := range []byte(text) {
			if c < ' ' && c != '\n' || c == 0x7f || c == 0x9b || c == 0x85 {
				t.Errorf("%s: byte %#x in the log: %q", name, c, text[max(0, i-80):min(len(text), i+20)])
				break
			}
		}
		if strings.Contains(text, `"event":"forged"`) || strings.Count(text, "\n") < 4 {
			t.Errorf("%s: the log is\n%s", name, text)
		}
		for line := range strings.Lines(text) {
			if name == "json" && !json.Valid([]byte(line)) {
				t.Errorf("no JSON: %s", line)
			}
		}
	}
}

func TestDemo(t *testing.T) {
	t.Parallel()
	b := backendtest.Start(t, backendtest.OK) // only to learn a free port
	b.Close()
	a, _ := run(t, zerolog.Disabled, b.URL(), func(c *config.Config) { c.Demo = true })
	if status := post(t, a.URL()+"/status/201", "k", "x"); status != 201 {
		t.Errorf("the demo backend answers %d", status)
	}
}

// The settings that errors are said to be of are settings.
func TestErrorsNameSettings(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	c, named := config.Default(), 0
	flags := c.Flags()
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?:c\.At|c\.AtUpstream|readSecret)\([^,()]+, "([^"]+)"`).FindAllSubmatch(text, -1) {
			if named++; flags.Lookup(string(m[1])) == nil {
				t.Errorf("%s: there is no setting %s", file, m[1])
			}
		}
	}
	if named < 10 {
		t.Errorf("only %d errors were looked at", named)
	}
}

// Routes are counted apart; nothing else makes a label.
func TestMetricsByRoute(t *testing.T) {
	t.Parallel()
	b := backendtest.Start(t, backendtest.OK)
	a, _ := run(t, zerolog.Disabled, b.URL(), func(c *config.Config) {
		c.Routes = []config.Route{{Name: "payments", Path: "/pay/*", Rules: c.Rules}}
	})
	for range 3 {
		post(t, a.URL()+"/pay/x", "", "x")
	}
	post(t, a.URL()+"/other", "", "x")
	got := metrics(t, a)
	if got[`requests_total{outcome="passed",route="payments"}`] != 3 || got[`requests_total{outcome="passed",route="default"}`] != 1 {
		t.Errorf("%v", got)
	}
}
