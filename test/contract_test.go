package test_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// TestDocuments runs every block of these pages of docs as it is printed, against a proxy
// with the page's own configuration, and compares what it prints with what the page says.
func TestDocuments(t *testing.T) {
	t.Parallel()
	for page, least := range map[string]int{
		"async": 5, "contract": 15, "fingerprint": 7, "keys": 9, "methods": 3, "presets": 11, "streams": 3, "testing": 7,
	} {
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			runDocument(t, page, least)
		})
	}
}

// runDocument runs the blocks of a page, of which there are so many at least, on both stores, with the settings that the page
// has under docs/examples.
func runDocument(t *testing.T, page string, least int) {
	t.Helper()
	text, err := os.ReadFile("../docs/" + page + ".md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := shellBlocks(string(text))
	if len(blocks) < least {
		t.Fatalf("%d blocks found", len(blocks))
	}
	onEveryStore(t, func(t *testing.T, store string) {
		root, err := filepath.Abs("..")
		if err != nil {
			t.Fatal(err)
		}
		conf, err := os.ReadFile("../docs/examples/" + page + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		backend := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
		file := filepath.Join(t.TempDir(), page+".yaml")
		own := strings.NewReplacer("127.0.0.1:9000", backend, "docs/examples", filepath.Join(root, "docs/examples")).Replace(string(conf))
		if err := os.WriteFile(file, []byte(own), 0o600); err != nil {
			t.Fatal(err)
		}
		p := start(t, "-c", file, "--store", store)
		admin := strings.TrimPrefix(p.adminURL, "http://")
		second := fmt.Sprint(redistest.FreePort(t))
		here := strings.NewReplacer(
			"localhost:8090", "127.0.0.1:"+second, "127.0.0.1:8090", "127.0.0.1:"+second, "127.0.0.1:9000", backend,
			"bin/idemproxy --listen", binary+" --listen", "bin/idemproxy fingerprint", binary+" fingerprint", "bin/idemproxy check", binary+" check",
			"localhost:8080", strings.TrimPrefix(p.url, "http://"), "localhost:9000", backend,
			"bin/idemproxy inspect", binary+" inspect --admin "+admin, "bin/idemproxy resolve", binary+" resolve --admin "+admin,
		)
		for _, b := range blocks {
			cmd := exec.Command("bash", "-c", here.Replace(b.script))
			cmd.Dir = root
			out, err := cmd.CombinedOutput()
			got := trimmed(asking.ReplaceAllString(strings.ReplaceAll(string(out), "\r", ""), ""))
			if got != trimmed(b.want) {
				t.Errorf("%s\nprinted (%v)\n%s\nwant\n%s", b.script, err, got, b.want)
			}
		}
	})
}

// trimmed is text without space at the ends of its lines.
func trimmed(text string) string {
	return strings.TrimSpace(endOfLine.ReplaceAllString(text, "\n"))
}

var endOfLine = regexp.MustCompile(`[ \t]*\n`)

// asking is what commands say on stderr, before anything else: which proxy they ask.
var asking = regexp.MustCompile(`(?m)^asking the proxy at .*\n`)

type block struct{ script, want string }

// shellBlocks are the page's sh blocks, each with what it says that it prints.
func shellBlocks(page string) (all []block) {
	for _, part := range strings.Split(page, "```sh\n")[1:] {
		text, _, _ := strings.Cut(part, "```")
		var b block
		for line := range strings.Lines(text) {
			if printed, ok := strings.CutPrefix(line, "# "); ok {
				b.want += printed
			} else {
				b.script += line
			}
		}
		b.want = strings.TrimSpace(b.want)
		all = append(all, b)
	}
	return all
}
