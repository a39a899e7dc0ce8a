package test_test

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// monitor runs a Prometheus, which scrapes a proxy, and has the alerts that are shipped. An alert that waits for
// minutes waits for a second here: `for:` is the one thing in the rules that is rewritten, so that an
// evening takes no longer than it must. How long each waits is what promtool tests.
func monitor(t *testing.T, scraped string) (at string) {
	t.Helper()
	if _, err := exec.LookPath("prometheus"); err != nil {
		t.Fatal("prometheus is missing: `make test` installs it, or apt-get install prometheus")
	}
	rules, err := os.ReadFile("../deploy/prometheus/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	waits := regexp.MustCompile(`(?m)^( +for: ).*$`)
	if len(waits.FindAll(rules, -1)) < 5 {
		t.Fatal("the rules do not wait")
	}
	dir, listen := t.TempDir(), fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	writeText(t, filepath.Join(dir, "alerts.yaml"), string(waits.ReplaceAll(rules, []byte("${1}1s"))))
	writeText(t, filepath.Join(dir, "prometheus.yml"), `
global: {scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}
rule_files: [alerts.yaml]
scrape_configs:
  - {job_name: idemproxy, static_configs: [{targets: ["`+scraped+`"]}]}
`)
	cmd := exec.Command("prometheus", "--config.file="+filepath.Join(dir, "prometheus.yml"), "--web.listen-address="+listen,
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--log.level=warn")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log := &strings.Builder{}
	cmd.Stderr, cmd.Stdout = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("log of Prometheus:\n%s", log)
		}
	})
	return "http://" + listen
}

// value is what Prometheus has of an expression, empty for nothing yet.
func (e *night) value(expression string) string {
	e.t.Helper()
	var answer struct {
		Data struct{ Result []struct{ Value [2]any } }
	}
	if !e.tryGet(e.prom+"/api/v1/query?query="+url.QueryEscape(expression), &answer) || len(answer.Data.Result) != 1 {
		return ""
	}
	return fmt.Sprint(answer.Data.Result[0].Value[1])
}

// firing is the alert's annotations while it fires.
func (e *night) firing(alert string) map[string]string {
	e.t.Helper()
	var answer struct {
		Data struct {
			Alerts []struct {
				State               string
				Labels, Annotations map[string]string
			}
		}
	}
	e.get(e.prom+"/api/v1/alerts", &answer)
	for _, a := range answer.Data.Alerts {
		if a.Labels["alertname"] == alert && a.State == "firing" {
			return a.Annotations
		}
	}
	return nil
}

// alert waits until it fires, and returns the section of the runbook that it names.
func (e *night) alert(name string) (section string) {
	e.t.Helper()
	eventually(e.t, name+" fires", func() bool { return e.firing(name) != nil })
	file, anchor, _ := strings.Cut(e.firing(name)["runbook"], "#")
	text, err := os.ReadFile("../" + file)
	if err != nil {
		e.t.Fatal(err)
	}
	for _, s := range strings.Split(string(text), "\n## ")[1:] {
		if heading, body, _ := strings.Cut(s, "\n"); strings.ToLower(heading) == anchor {
			return body
		}
	}
	e.t.Fatalf("%s names %s#%s, which is not there", name, file, anchor)
	return ""
}

// cleared waits until it fires no more.
func (e *night) cleared(name string) {
	e.t.Helper()
	eventually(e.t, name+" ends", func() bool { return e.firing(name) == nil })
}
