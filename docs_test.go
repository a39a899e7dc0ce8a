package idemproxy

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestLinksLead: every relative link in a document leads to a file.
func TestLinksLead(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`)
	var documents []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md", "*/README.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		documents = append(documents, found...)
	}
	if len(documents) < 5 {
		t.Fatalf("only %d documents", len(documents))
	}
	for _, document := range documents {
		for _, m := range link.FindAllStringSubmatch(read(t, document), -1) {
			target := filepath.Join(filepath.Dir(document), m[1])
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s, which is not there", document, m[1])
			}
		}
	}
}

// TestSizingNamesFigures: docs/sizing.md types no figure of a measurement; it names, in italics, the rows that have it.
func TestSizingNamesFigures(t *testing.T) {
	t.Parallel()
	_, figures, _ := strings.Cut(read(t, "docs/performance-results.md"), "\n## Figures\n")
	named := regexp.MustCompile(`(?:^|[^*])\*([^*\n]+)\*(?:[^*]|$)`).FindAllStringSubmatch(read(t, "docs/sizing.md"), -1)
	for _, m := range named {
		if m[1] != "italics" && !strings.Contains(figures, m[1]) {
			t.Errorf("docs/sizing.md names %q, which is no row of the figures", m[1])
		}
	}
	if len(named) < 8 {
		t.Errorf("only %d rows named", len(named))
	}
}

// TestDependenciesAreExplained: every direct dependency has a line with its
// reason, and no line outlives its dependency.
func TestDependenciesAreExplained(t *testing.T) {
	t.Parallel()
	text := read(t, "docs/dependencies.md")
	direct := regexp.MustCompile(`(?m)^(?:require )?\s*([a-z0-9.]+\.[a-z]+/\S+) v\S+$`)
	modules := direct.FindAllStringSubmatch(read(t, "go.mod"), -1)
	if len(modules) < 8 {
		t.Fatalf("only %d dependencies found in go.mod", len(modules))
	}
	known := map[string]bool{}
	for _, m := range modules {
		known[m[1]] = true
		if !strings.Contains(text, "| `"+m[1]+"` |") {
			t.Errorf("docs/dependencies.md does not say why %s is needed", m[1])
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+/[^`]+)` \\|").FindAllStringSubmatch(text, -1) {
		if !known[m[1]] {
			t.Errorf("docs/dependencies.md explains %s, which is not in go.mod", m[1])
		}
	}
}

// TestFilesOfOthersAreAsReleased: what is in the product of others is explained, and
// nobody has changed it.
func TestFilesOfOthersAreAsReleased(t *testing.T) {
	t.Parallel()
	explained := map[string]string{}
	row := regexp.MustCompile("(?m)^\\| (\\S+) \\|.*\\| `([0-9a-f]{64})` \\|$")
	for _, m := range row.FindAllStringSubmatch(read(t, "docs/dependencies.md"), -1) {
		explained[m[1]] = m[2]
	}
	files, err := filepath.Glob("admin/page/vendor/*")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		if sum := fmt.Sprintf("%x", sha256.Sum256([]byte(read(t, file)))); explained[name] != sum {
			t.Errorf("%s has the sum %s; docs/dependencies.md says %q", file, sum, explained[name])
		}
		delete(explained, name)
	}
	for name := range explained {
		t.Errorf("docs/dependencies.md explains %s, which is not there", name)
	}
}

// TestConformanceNamesTests: every row of docs/conformance.md and of
// docs/threat-model.md names a test, and every test that a document names is
// there.
func TestConformanceNamesTests(t *testing.T) {
	t.Parallel()
	defined := map[string]bool{}
	var files []string
	for _, pattern := range []string{"*_test.go", "*/*_test.go", "*/*/*_test.go"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	for _, file := range files {
		for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)`).FindAllStringSubmatch(read(t, file), -1) {
			defined[m[1]] = true
		}
	}
	name := regexp.MustCompile("`((?:Test|Fuzz)\\w+)`")
	documents, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	documents = append(documents, "README.md", "CONTRIBUTING.md", "SECURITY.md")
	for _, document := range documents {
		for _, m := range name.FindAllStringSubmatch(read(t, document), -1) {
			if !defined[m[1]] {
				t.Errorf("%s names %s, which is not there", document, m[1])
			}
		}
	}
	rows := 0
	for line := range strings.Lines(read(t, "docs/conformance.md") + read(t, "docs/threat-model.md")) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| ---") || strings.Contains(line, "shown by") {
			continue
		}
		rows++
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !name.MatchString(cells[len(cells)-1]) {
			t.Errorf("no test shows %s", strings.TrimSpace(line))
		}
	}
	if rows < 50 {
		t.Errorf("only %d rows", rows)
	}
}
