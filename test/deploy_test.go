package test_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/metrics"
)

// metricNames are those that the proxy has.
func metricNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, c := range metrics.New().Collectors() {
		found := make(chan *prometheus.Desc, 16)
		c.Describe(found)
		close(found)
		for d := range found {
			name, _, _ := strings.Cut(strings.TrimPrefix(d.String(), `Desc{fqName: "`), `"`)
			for _, suffix := range []string{"", "_bucket", "_sum", "_count"} {
				names[name+suffix] = true
			}
		}
	}
	return names
}

// Alerts and dashboard are about metrics that exist; alerts come when they should,
// and have their page in the runbook.
func TestAlertsAndDashboard(t *testing.T) {
	t.Parallel()
	names := metricNames(t)
	for _, file := range []string{"../deploy/prometheus/alerts.yaml", "../deploy/grafana/idemproxy.json"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		used := regexp.MustCompile(`idemproxy_[a-z_]+`).FindAllString(string(text), -1)
		if len(used) < 10 {
			t.Errorf("%s uses %d metrics only", file, len(used))
		}
		for _, name := range used {
			if !names[name] {
				t.Errorf("%s uses %s, which is not there", file, name)
			}
		}
	}
	var dashboard struct{ Panels []struct{ Title string } }
	text, err := os.ReadFile("../deploy/grafana/idemproxy.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &dashboard); err != nil || len(dashboard.Panels) < 10 {
		t.Errorf("%d panels, %v", len(dashboard.Panels), err)
	}
	runbook, err := os.ReadFile("../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	alerts, err := os.ReadFile("../deploy/prometheus/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(string(alerts), -1) {
		if !strings.Contains(string(runbook), "\n## "+m[1]+"\n") {
			t.Errorf("docs/runbook.md has no section %s", m[1])
		}
		if !strings.Contains(string(alerts), "docs/runbook.md#"+strings.ToLower(m[1])+"\n") {
			t.Errorf("%s does not name its section", m[1])
		}
	}
	for _, args := range [][]string{{"check", "rules", "alerts.yaml"}, {"test", "rules", "alerts.test.yaml"}} {
		cmd := exec.Command("promtool", args...)
		cmd.Dir = "../deploy/prometheus"
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %v (scripts/test.sh installs it): %v\n%s", args, err, out)
		}
	}
}

// What the manifests tell the proxy are settings that exist, and the configuration
// in them is one that it takes.
func TestManifests(t *testing.T) {
	t.Parallel()
	c := config.Default()
	flags := c.Flags()
	flags.String("config", "", "")
	settings := 0
	setting := func(file, name string) {
		settings++
		if flags.Lookup(name) == nil {
			t.Errorf("%s: there is no setting %s", file, name)
		}
	}
	files, err := filepath.Glob("../deploy/*/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, "../deploy/compose.yaml", "../deploy/Dockerfile") {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // a folder
		}
		if strings.HasSuffix(file, ".yaml") {
			for doc := range strings.SplitSeq(string(text), "\n---\n") {
				var parsed map[string]any
				if err := yaml.Unmarshal([]byte(doc), &parsed); err != nil {
					t.Errorf("%s: %v", file, err)
				}
				if data, ok := parsed["data"].(map[string]any); ok {
					loads(t, file, data["idemproxy.yaml"].(string)) //nolint:forcetypeassert // or the test fails
				}
			}
		}
		for _, m := range regexp.MustCompile(`IDEMPROXY_([A-Z_]+)`).FindAllStringSubmatch(string(text), -1) {
			setting(file, strings.ToLower(strings.ReplaceAll(m[1], "_", "-")))
		}
		if strings.Contains(file, "kubernetes") || strings.Contains(file, "systemd") {
			uncommented := regexp.MustCompile(`(?m)^\s*#.*$`).ReplaceAllString(string(text), "")
			for _, m := range regexp.MustCompile(`[ \[]--([a-z-]+)[= ]`).FindAllStringSubmatch(uncommented, -1) {
				setting(file, m[1])
			}
		}
	}
	if settings < 15 {
		t.Errorf("only %d settings found", settings)
	}
	text, err := os.ReadFile("../deploy/package/idemproxy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	loads(t, "deploy/package/idemproxy.yaml", string(text))
	loads(t, "deploy/package/idemproxy.yaml, its comments", strings.ReplaceAll(string(text), "# store", "store"))
}

func loads(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "f.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := config.Default()
	if _, err := config.Load(&c, c.Flags(), file, nil); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

// What the package is made of is there.
func TestPackageSources(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../deploy/package/nfpm.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var p struct{ Contents []struct{ Src string } }
	if err := yaml.Unmarshal(text, &p); err != nil || len(p.Contents) < 5 {
		t.Fatalf("%d files, %v", len(p.Contents), err)
	}
	for _, c := range p.Contents {
		if strings.HasPrefix(c.Src, "bin/") || strings.HasPrefix(c.Src, "dist/") {
			continue // made by scripts/package.sh
		}
		if _, err := os.Stat("../" + c.Src); err != nil {
			t.Error(err)
		}
	}
}

// A release says its version: what `make package` builds the binary of the package and the
// image with, and the Makefile hands to the linker.
func TestReleaseSaysItsVersion(t *testing.T) {
	t.Parallel()
	dry := exec.Command("make", "-n", "build", "VERSION=9.8.7")
	dry.Dir = ".."
	printed, err := dry.Output()
	m := regexp.MustCompile(`-ldflags '([^']*)' -o bin/idemproxy`).FindStringSubmatch(string(printed))
	if err != nil || m == nil {
		t.Fatalf("%v: %s", err, printed)
	}
	run := exec.Command("go", "run", "-ldflags", m[1], "../cmd/proxy", "version", "--json")
	if out, err := run.CombinedOutput(); err != nil || !strings.Contains(string(out), `"version":"9.8.7"`) {
		t.Errorf("%v %s", err, out)
	}
	script, err := os.ReadFile("../scripts/package.sh")
	if err != nil {
		t.Fatal(err)
	}
	if build, version := strings.Index(string(script), "make --no-print"), strings.Index(string(script), "export ARCH VERSION"); version < 0 || build < version {
		t.Error("scripts/package.sh builds before it knows the version")
	}
}
