package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// Every scenario, for a second, on both stores: the promises hold.
func TestScenarios(t *testing.T) {
	for _, s := range scenarios() {
		for _, store := range []string{"", "redis"} {
			name := s.name + " embedded"
			if store != "" {
				name = s.name + " redis"
			}
			t.Run(name, func(t *testing.T) {
				var out bytes.Buffer
				dir := t.TempDir()
				code := run(context.Background(), []string{
					"-scenario", s.name, "-rate", "200", "-duration", s.inTests(), "-store", store, "-out", dir,
				}, &out, &out)
				if code != exitOK {
					t.Fatalf("exit code %d:\n%s", code, out.String())
				}
				text, err := os.ReadFile(filepath.Join(dir, s.name+".json"))
				if err != nil {
					t.Fatal(err)
				}
				var got struct {
					All   struct{ Requests int }
					Check verdict
				}
				if err := json.Unmarshal(text, &got); err != nil {
					t.Fatal(err)
				}
				if got.All.Requests < 1 || got.Check.Executions < 1 || got.Check.Executions > got.Check.Keys {
					t.Errorf("the report is not of this attack: %+v", got)
				}
			})
		}
	}
}

// inTests is how long a scenario runs here: chaos needs some faults.
func (s scenario) inTests() string {
	if s.chaos {
		return "4s"
	}
	return "1s"
}

func TestBaseline(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	args := []string{"-scenario", "hit", "-rate", "100", "-duration", "1s", "-out", dir}
	var out bytes.Buffer
	if code := run(context.Background(), args, &out, &out); code != exitOK {
		t.Fatal(out.String())
	}
	out.Reset()
	code := run(context.Background(), append(args, "-baseline", filepath.Join(dir, "hit.json")), &out, &out)
	if code != exitOK || !strings.Contains(out.String(), "replayed   p50 ") {
		t.Errorf("exit code %d:\n%s", code, out.String())
	}
}

func TestBurstPacer(t *testing.T) {
	t.Parallel()
	p := burst(10, 10*time.Second).(burstPacer) //nolint:forcetypeassert // ours
	for at, want := range map[time.Duration]float64{
		0: 0, 4 * time.Second: 40, 5 * time.Second: 140, 6 * time.Second: 240, 10 * time.Second: 280,
	} {
		if got := p.hits(at); got < want-1e-6 || got > want+1e-6 {
			t.Errorf("%v hits by %v, want %v", got, at, want)
		}
	}
}

// A proxy that executes every request is found out.
func TestViolationIsFound(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/executions" {
			_, _ = w.Write([]byte(`{"started":2}`))
			return
		}
		n.Add(1)
	}))
	defer broken.Close()
	var out bytes.Buffer
	code := run(context.Background(), []string{
		"-scenario", "hit", "-rate", "50", "-duration", "1s", "-target", broken.URL, "-counter", broken.URL,
	}, &out, &out)
	if code != exitViolation || !strings.Contains(out.String(), "VIOLATION") || n.Load() < 40 {
		t.Errorf("exit code %d after %d requests:\n%s", code, n.Load(), out.String())
	}
}

func TestBadOptions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"-scenario", "nonsense"}, "contention"},
		{[]string{"-target", "http://127.0.0.1:1", "-counter", "http://127.0.0.1:1"}, "cannot be reached"},
		{[]string{"-target", "http://127.0.0.1:1"}, "-counter"},
		{[]string{"-rate", "-1"}, "negative"},
		{[]string{"surplus"}, "surplus"},
	} {
		var out bytes.Buffer
		if code := run(context.Background(), c.args, &out, &out); code != exitUsage || !strings.Contains(out.String(), c.want) {
			t.Errorf("%v: exit code %d, want %q in:\n%s", c.args, code, c.want, out.String())
		}
	}
}

// Ctrl-C in the middle: a report of what was sent, and the stage is taken down.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	out := &cancelAfter{text: "answered", cancel: cancel}
	if code := run(ctx, []string{"-scenario", "hit", "-rate", "100", "-duration", "10m"}, out, out); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if !strings.Contains(out.String(), "interrupted") || !strings.Contains(out.String(), "replayed") {
		t.Errorf("the report:\n%s", out.String())
	}
}

// cancelAfter cancels when it is told text.
type cancelAfter struct {
	bytes.Buffer
	text   string
	cancel func()
}

func (c *cancelAfter) Write(p []byte) (int, error) {
	if strings.Contains(string(p), c.text) {
		c.cancel()
	}
	return c.Buffer.Write(p)
}

// The target files are what the vegeta command reads.
func TestTargetFiles(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"contention", "hit", "mismatch", "nokey"} {
		file := filepath.Join("targets", name+".txt")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		// Bodies are named from the root of the repository.
		local := strings.ReplaceAll(string(text), "@loadtest/", "@")
		targets, err := vegeta.ReadAllTargets(vegeta.NewHTTPTargeter(strings.NewReader(local), nil, nil))
		if err != nil || len(targets) == 0 {
			t.Errorf("%s: %d targets, %v", file, len(targets), err)
		}
		for _, target := range targets {
			if target.Method != http.MethodPost || len(target.Body) != len("amount=5") {
				t.Errorf("%s: %s with a body of %d bytes", file, target.Method, len(target.Body))
			}
		}
	}
}
