package test_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/idemproxy/idemproxy/proxy/backendtest"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// alertRule is a rule as Prometheus has it.
type alertRule struct {
	Alert, Expr, For string
	Annotations      map[string]string
}

func alertRules(t *testing.T) (rules []alertRule) {
	t.Helper()
	var file struct{ Groups []struct{ Rules []alertRule } }
	text, err := os.ReadFile("../deploy/prometheus/alerts.yaml")
	if err == nil {
		err = yaml.Unmarshal(text, &file)
	}
	if err != nil || len(file.Groups) != 1 || len(file.Groups[0].Rules) < 10 {
		t.Fatalf("%v, %d groups", err, len(file.Groups))
	}
	return file.Groups[0].Rules
}

// scrape is what /metrics says of the proxy's own series, by their names with labels.
func (p *process) scrape() map[string]string {
	p.t.Helper()
	resp, err := http.Get(p.adminURL + "/metrics") //nolint:noctx // a test
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	series := map[string]string{}
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if i := strings.LastIndexByte(lines.Text(), ' '); i > 0 && strings.HasPrefix(lines.Text(), "idemproxy_") {
			series[lines.Text()[:i]] = lines.Text()[i+1:]
		}
	}
	return series
}

// labelled gives a series the labels that Prometheus adds when it scrapes.
func labelled(series string) string {
	const added = `job="idemproxy",instance="a"`
	if name, rest, has := strings.Cut(series, "{"); has {
		return name + "{" + added + "," + rest
	}
	return series + "{" + added + "}"
}

var metricOf = regexp.MustCompile(`idemproxy_[a-z_]+`)

// Each series that an alert or a panel names is there before anything has happened:
// what begins to exist with its first event has no increase then, and alerts nobody.
func TestWhatAlertsNameIsThereFromTheStart(t *testing.T) {
	t.Parallel()
	p := start(t, "--store", "embedded:"+t.TempDir(), "--backend", newOrigin(t).url())
	there := map[string]bool{}
	for series := range p.scrape() {
		name, _, _ := strings.Cut(series, "{")
		there[name] = true
	}
	for _, file := range []string{"../deploy/prometheus/alerts.yaml", "../deploy/grafana/idemproxy.json"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range metricOf.FindAllString(string(text), -1) {
			if !there[name] {
				t.Errorf("%s names %s, which a fresh proxy does not export", file, name)
				there[name] = true // once is enough
			}
		}
	}
}

// troubled is a proxy to which happens, once, all that there are alerts for; it returns what
// it exported before and after.
func troubled(t *testing.T) (before, after map[string]string) {
	t.Helper()
	redis, o, dying := redistest.Start(t), newOrigin(t), backendtest.Start(t, backendtest.OK)
	file := filepath.Join(t.TempDir(), "idemproxy.yaml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	settings := fmt.Sprintf(`
store: %s
backend: [%s]
store_timeout: 1s
lock_ttl: 30s
count_every: 1s
on_ambiguous: hold
max_in_flight: 2
upstreams:
  - name: two
    backend: [%s, %s]
    health_path: /healthz
    health_interval: 500ms
routes:
  - {name: open, path: /open, fail_open: true, on_ambiguous: release}
  - {name: two, path: /two, upstream: two}
`, redis.URL(), o.url(), o.url(), dying.URL())
	write(settings)
	p := start(t, "-c", file)
	eventually(t, "no backend is down", func() bool { // on a busy machine one may be, for a moment
		before = p.scrape()
		for series, value := range before {
			if strings.HasPrefix(series, "idemproxy_backend_down{") && value != "0" {
				return false
			}
		}
		return true
	})

	p.expect("/cut", "held", 502, false)
	eventually(t, "the key is counted", func() bool { return p.metric("idemproxy_unknown_keys") == 1 })
	dying.Close()
	eventually(t, "the dead backend is seen", func() bool {
		return p.metric(fmt.Sprintf("idemproxy_backend_down{backend=%q,upstream=\"two\"}", dying.URL())) == 1
	})
	slow := make(chan answer, 2)
	for _, key := range []string{"lost", "busy"} {
		go func() { slow <- p.post("/slow?d=15s", key) }()
		o.started(key)
	}
	p.expect("/", "too-many", 503, false)
	if code, out := p.operate("purge", "lost", "--yes"); code != 0 {
		t.Error(out)
	}
	<-slow
	<-slow
	time.AfterFunc(400*time.Millisecond, redis.Stall()) // a store that takes as long
	p.expect("/", "late", 200, false)
	write(settings + "max_in_flight: many\n")
	p.signal(syscall.SIGHUP)
	eventually(t, "the reload fails", func() bool { return strings.Contains(p.text(), "reload_failed") })
	redis.Kill()
	p.expect("/", "closed", 500, false)
	p.expect("/open", "open", 200, false)
	eventually(t, "the store is seen to be lost", func() bool { return p.metric("idemproxy_store_up") == 0 })
	after = p.scrape()
	redis.Restart()
	redis.Do("FLUSHALL")
	eventually(t, "the store is seen to be empty", func() bool { return p.metric("idemproxy_store_emptied_total") > 0 })
	after["idemproxy_store_emptied_total"] = p.scrape()["idemproxy_store_emptied_total"]
	after["idemproxy_endings_dropped_total"] = dropped(t)
	return before, after
}

// dropped is what a proxy exports whose Redis goes while more responses are under way than a
// proxy keeps for later.
func dropped(t *testing.T) string {
	t.Helper()
	const many = 70 // of nearly 1 MiB each: more than 64 MiB
	redis, begun, answer := redistest.Start(t), make(chan struct{}, many), make(chan struct{})
	b := backendtest.Start(t, func(c backendtest.Conn, _ *backendtest.Request) {
		begun <- struct{}{}
		<-answer
		c.Answer(200, strings.Repeat("x", 1<<20-1000))
	})
	p := start(t, "--store", redis.URL(), "--backend", b.URL(), "--store-timeout", "1s")
	var done sync.WaitGroup
	for i := range many {
		done.Go(func() { _, _ = p.try("/", fmt.Sprint("large-", i)) })
	}
	eventually(t, "all have begun", func() bool { return len(begun) == many })
	redis.Kill()
	close(answer)
	done.Wait()
	const series = "idemproxy_endings_dropped_total"
	eventually(t, "an ending is dropped", func() bool { return p.metric(series) > 0 })
	return p.scrape()[series]
}

// operate runs a command about this proxy.
func (p *process) operate(args ...string) (code int, out string) {
	p.t.Helper()
	cmd := execCommand(p.t, append(args, "--admin", strings.TrimPrefix(p.adminURL, "http://"))...)
	text, _ := cmd.CombinedOutput()
	return cmd.ProcessState.ExitCode(), string(text)
}

// Every alert comes, in Prometheus itself, of what a real proxy exports when that
// happens which the alert is about: once, and for the first time in the process's life.
// For those about rates it goes on.
func TestAlertsComeOfARealProxy(t *testing.T) {
	t.Parallel()
	before, after := troubled(t)
	for _, going := range []bool{false, true} {
		var b strings.Builder
		fmt.Fprintf(&b, "rule_files: [%s]\nevaluation_interval: 30s\ntests:\n  - interval: 30s\n    input_series:\n",
			mustAbs(t, "../deploy/prometheus/alerts.yaml"))
		for series, now := range after {
			values := "_x10 " + now + "x60" // it begins to exist
			if was, there := before[series]; there {
				values = for11(was) + now + "x60"
				if going && regexp.MustCompile(`_(total|bucket|count|sum)\b`).MatchString(series) {
					values = for11(was) + now + "+" + difference(t, now, was) + "x60"
				}
			}
			fmt.Fprintf(&b, "      - {series: '%s', values: '%s'}\n", labelled(series), values)
		}
		b.WriteString("    promql_expr_test:\n      - {expr: 'count(ALERTS{alertstate=\"firing\"})', eval_time: 4m, exp_samples: []}\n")
		for _, rule := range alertRules(t) {
			if rule.Alert == "IdemproxyDown" || strings.Contains(rule.Expr, "rate(") != going {
				continue // that one is Prometheus's own series; the other half of the test has those
			}
			fmt.Fprintf(&b, "      - {expr: 'sum(ALERTS{alertname=\"%s\",alertstate=\"firing\"}) > bool 0', eval_time: 14m,"+
				" exp_samples: [{labels: '{}', value: 1}]}\n", rule.Alert)
		}
		file := filepath.Join(t.TempDir(), "alerts.test.yaml")
		if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("promtool", "test", "rules", file).CombinedOutput(); err != nil {
			t.Errorf("promtool (scripts/test.sh installs it), going on: %v: %v\n%s", going, err, firstLines(out, 60))
		}
	}
}

// for11 is a value that stands for eleven scrapes; promtool has no other word for NaN.
func for11(value string) string { return strings.Repeat(value+" ", 11) }

func mustAbs(t *testing.T, file string) string {
	t.Helper()
	abs, err := filepath.Abs(file)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

func difference(t *testing.T, now, was string) string {
	t.Helper()
	var x, y float64
	if _, err := fmt.Sscan(now+" "+was, &x, &y); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(x - y)
}

func firstLines(text []byte, n int) []byte {
	lines := slices.Collect(bytes.Lines(text))
	return bytes.Join(lines[:min(n, len(lines))], nil)
}
