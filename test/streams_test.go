package test_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// reader reads a stream of the demo backend's events as it comes.
type reader struct {
	t    *testing.T
	resp *http.Response
	from *bufio.Reader
}

func (p *process) read(path, key string, header ...string) *reader {
	p.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p.t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+path, strings.NewReader("amount=5"))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Host = serviceHost
	req.Header.Set("Idempotency-Key", key)
	for _, field := range header {
		name, value, _ := strings.Cut(field, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	return &reader{p.t, resp, bufio.NewReader(resp.Body)}
}

// begins waits for the first event.
func (r *reader) begins() {
	r.t.Helper()
	for {
		line, err := r.from.ReadString('\n')
		if err != nil {
			r.t.Fatalf("no event: %v", err)
		}
		if strings.TrimSpace(line) == "data: event 1 of 3" {
			return
		}
	}
}

// end reads to the end.
func (r *reader) end() (string, error) {
	rest, err := io.ReadAll(r.from)
	_ = r.resp.Body.Close()
	return string(rest), err
}

var streaming = []string{"--stream-responses", "--in-progress", "join", "--lock-ttl", "2s"}

// kill -9 of the proxy amid a stream, and after a 202: what came is not complete for
// anybody, and the key ends as the policy says when the lease has lapsed.
func TestKillProxyMidStream(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"release", "hold"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			onEveryStore(t, func(t *testing.T, store string) {
				o := newOrigin(t)
				args := append([]string{"--store", store, "--backend", o.url(), "--on-ambiguous", policy, "--respond-async"}, streaming...)
				first := start(t, args...)
				r := first.read("/events?n=3&d=20s", "stream")
				r.begins()
				late := first.read("/slow?d=20s", "late", "Prefer: respond-async")
				if where := late.resp.Header.Get("Location"); late.resp.StatusCode != 202 || where == "" {
					t.Fatalf("%d %v", late.resp.StatusCode, late.resp.Header)
				}
				o.started("late")
				first.kill()
				if rest, err := r.end(); err == nil {
					t.Errorf("what was cut looks complete: %q", rest)
				}

				second := start(t, args...)
				where := second.url + late.resp.Header.Get("Location")
				if policy == "hold" {
					eventually(t, "the stream's key becomes unknown", func() bool {
						return strings.Contains(second.post("/events?n=3&d=20s", "stream").body, "outcome-unknown")
					})
					eventually(t, "the outcome becomes unknown", func() bool { return strings.Contains(get(t, where), `"state":"unknown"`) })
					return
				}
				eventually(t, "the lease lapses", func() bool { return strings.Contains(get(t, where), "outcome-none") })
				eventually(t, "the stream's, too", func() bool {
					return strings.Contains(get(t, second.url+"/.idemproxy/outcomes?key=stream"), "outcome-none")
				})
				again := second.read("/events?n=3&d=20s", "stream")
				again.begins()
				if again.resp.Header.Get("Idempotent-Replayed") != "" {
					t.Errorf("what was cut is replayed: %v", again.resp.Header)
				}
			})
		})
	}
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url) //nolint:noctx // of this test's proxy
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// A joiner on another proxy of the same Redis gets the replay when the stream has ended.
func TestJoinOnAnotherProxy(t *testing.T) {
	t.Parallel()
	redis, o := redistest.Start(t), newOrigin(t)
	args := append([]string{"--store", redis.URL(), "--backend", o.url()}, streaming...)
	one, other := start(t, args...), start(t, args...)
	r := one.read("/events?n=3&d=300ms", "k")
	r.begins()
	joined := other.read("/events?n=3&d=300ms", "k")
	if n := joined.resp.ContentLength; n <= 0 || joined.resp.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("not the replay: %d bytes, %v", n, joined.resp.Header)
	}
	all, err := joined.end()
	if err != nil || strings.Count(all, "data:") != 3 {
		t.Errorf("%q, %v", all, err)
	}
	if rest, err := r.end(); err != nil || strings.Count(rest, "data:") != 2 {
		t.Errorf("%q, %v", rest, err)
	}
	o.executions("k", 1)
}

// Redis dies amid a stream: its client gets all of it, and Redis the response when it is
// back.
func TestKillRedisMidStream(t *testing.T) {
	t.Parallel()
	redis, o := redistest.Start(t), newOrigin(t)
	p := start(t, append([]string{"--store", redis.URL(), "--backend", o.url(), "--store-timeout", "500ms"}, streaming...)...)
	r := p.read("/events?n=3&d=500ms", "k")
	r.begins()
	redis.Kill()
	if rest, err := r.end(); err != nil || !strings.HasSuffix(rest, "data: event 3 of 3\n\n") {
		t.Errorf("%q, %v", rest, err)
	}
	redis.Restart()
	eventually(t, "the record is written", func() bool {
		a := p.post("/events?n=3&d=500ms", "k")
		return a.replayed && strings.Count(a.body, "data:") == 3
	})
	o.executions("k", 1)
}

// SIGTERM amid a stream that nobody reads any more, and after a 202: both are finished and
// stored.
func TestDrainMidStream(t *testing.T) {
	t.Parallel()
	onEveryStore(t, func(t *testing.T, store string) {
		o := newOrigin(t)
		args := append([]string{"--store", store, "--backend", o.url(), "--respond-async"}, streaming...)
		p := start(t, args...)
		r := p.read("/events?n=3&d=400ms", "stream")
		r.begins()
		_ = r.resp.Body.Close()
		late := p.read("/slow?d=1s", "late", "Prefer: respond-async")
		if late.resp.StatusCode != 202 {
			t.Fatalf("%d", late.resp.StatusCode)
		}
		p.signal(syscall.SIGTERM)
		<-p.done
		if code := p.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		next := start(t, args...)
		if a := next.expect("/events?n=3&d=400ms", "stream", 200, true); strings.Count(a.body, "data:") != 3 {
			t.Errorf("%v", a)
		}
		next.expect("/slow?d=1s", "late", 200, true)
		o.executions("stream", 1)
		o.executions("late", 1)
	})
}
