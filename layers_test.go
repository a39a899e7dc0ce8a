// Package idemproxy is the hall: it holds no code, only the law of which room
// may import what, and tests that keep documents true.
package idemproxy

import (
	"go/build"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/idemproxy/idemproxy"

// room is what one folder may import. Standard library packages are allowed
// unless never names them; everything else must be listed.
type room struct {
	ours    []string // rooms of this module
	outside []string // modules or packages of others
	never   []string
}

// laws is a statement of policy. Do not change it to make a build pass: a room
// that needs a new import needs a reason first. Test files may import test
// helpers and storetest besides.
func laws() map[string]room {
	return map[string]room{
		"idem":                  {ours: []string{"internal/failpoint"}, never: []string{"net/http", "net", "log", "log/slog", "os"}},
		"idem/storetest":        {ours: []string{"idem"}},
		"idem/tracetest":        {ours: []string{"idem", "idem/storetest", "internal/storelog"}},
		"rstore":                {ours: []string{"idem", "internal/failpoint", "internal/outage", "internal/redact", "internal/replays"}, outside: []string{"github.com/redis/rueidis", "github.com/rs/zerolog"}, never: []string{"net/http"}},
		"rstore/fakeredis":      {outside: []string{"github.com/yuin/gopher-lua"}, never: []string{"net/http", "os"}},
		"rstore/redistest":      {outside: []string{"github.com/redis/rueidis"}},
		"estore":                {ours: []string{"idem", "internal/failpoint", "internal/outage", "internal/replays"}, outside: []string{"github.com/cockroachdb/pebble/v2", "github.com/rs/zerolog", "github.com/maypok86/otter/v2"}, never: []string{"net/http"}},
		"pstore":                {ours: []string{"idem", "internal/failpoint", "internal/outage", "internal/redact", "internal/replays"}, outside: []string{"github.com/jackc/pgx/v5", "github.com/rs/zerolog"}, never: []string{"net/http"}},
		"message":               {outside: []string{"github.com/valyala/fasthttp"}, never: []string{"net/http"}},
		"caller":                {ours: []string{"idem", "message"}, outside: []string{"github.com/valyala/fasthttp"}, never: []string{"net/http"}},
		"operation":             {ours: []string{"idem", "message"}, outside: []string{"github.com/dunglas/httpsfv", "github.com/go-json-experiment/json", "github.com/gowebpki/jcs", "github.com/vektah/gqlparser/v2"}, never: []string{"net/http"}},
		"upstream":              {ours: []string{"idem", "internal/redact", "message"}, outside: []string{"github.com/valyala/fasthttp", "github.com/valyala/bytebufferpool"}, never: []string{"net/http"}},
		"proxy":                 {ours: []string{"caller", "idem", "internal/failpoint", "internal/redact", "message", "operation", "upstream"}, outside: []string{"github.com/valyala/fasthttp", "github.com/valyala/bytebufferpool", "github.com/dunglas/httpsfv", "golang.org/x/sync", "golang.org/x/sys"}, never: []string{"net/http"}},
		"proxy/backendtest":     {},
		"admin":                 {ours: []string{"idem"}},
		"seal":                  {ours: []string{"idem"}, outside: []string{"github.com/klauspost/compress"}, never: []string{"net/http"}},
		"token":                 {ours: []string{"internal/redact"}, outside: []string{"github.com/MicahParks/keyfunc/v3", "github.com/golang-jwt/jwt/v5", "github.com/maypok86/otter/v2", "golang.org/x/time"}},
		"receipt":               {}, // for backends: the standard library only
		"metrics":               {outside: []string{"github.com/prometheus/client_golang"}},
		"config":                {ours: []string{"caller", "idem", "internal/redact", "message", "operation", "proxy", "upstream"}, outside: []string{"github.com/goccy/go-yaml", "github.com/spf13/pflag", "github.com/dustin/go-humanize"}}, // it fills the Configs of the rooms that serve requests
		"app":                   {ours: []string{"admin", "caller", "config", "estore", "idem", "internal/backend", "internal/failpoint", "internal/recipes", "internal/redact", "internal/storelog", "metrics", "operation", "proxy", "pstore", "rstore", "seal", "token", "upstream"}, outside: []string{"github.com/prometheus/client_golang", "github.com/rs/zerolog", "github.com/pires/go-proxyproto", "golang.org/x/sys", "go.opentelemetry.io"}},
		"cli":                   {ours: []string{"admin", "app", "config", "idem", "internal/logsink", "internal/redact"}, outside: []string{"github.com/rs/zerolog", "github.com/spf13/cobra", "github.com/mattn/go-isatty", "github.com/spf13/pflag"}},
		"cmd/proxy":             {ours: []string{"cli"}},
		"cmd/backend":           {ours: []string{"internal/backend"}, outside: []string{"modernc.org/sqlite"}},
		"internal/backend":      {ours: []string{"receipt"}, outside: []string{"github.com/valyala/fasthttp"}},
		"internal/dbtest":       {outside: []string{"github.com/jackc/pgx/v5", "github.com/go-sql-driver/mysql"}},
		"internal/failpoint":    {}, // empty without its build tag: what all rooms may call
		"internal/golden":       {},
		"internal/replays":      {ours: []string{"idem", "internal/failpoint"}, outside: []string{"github.com/maypok86/otter/v2"}, never: []string{"net/http", "net"}},
		"internal/logsink":      {outside: []string{"golang.org/x/sys"}, never: []string{"net/http", "net", "log", "log/slog", "os"}},
		"internal/outage":       {},
		"internal/recipes":      {ours: []string{"idem"}, never: []string{"net/http", "net", "log", "log/slog", "os"}},
		"internal/redact":       {never: []string{"net/http", "log", "log/slog", "os"}},
		"internal/storelog":     {ours: []string{"idem"}, outside: []string{"golang.org/x/sys"}, never: []string{"net/http", "net"}}, // with its build tag only
		"internal/toxitest":     {outside: []string{"github.com/Shopify/toxiproxy/v2", "github.com/rs/zerolog"}},
		"loadtest":              {ours: []string{"app", "config", "idem", "internal/backend"}, outside: []string{"github.com/tsenart/vegeta/v12", "github.com/rs/zerolog", "github.com/Shopify/toxiproxy/v2"}},
		"bench":                 {outside: []string{"github.com/tsenart/vegeta/v12", "github.com/google/pprof"}},
		"test":                  {},
		"test/compose":          {},
		"test/corpora":          {},
		"test/differential":     {},
		"test/like":             {},
		"test/page":             {},
		"test/receipts":         {},
		"docs/examples/clients": {},
		"test/history":          {},
		"test/messages":         {},
		"test/model":            {},
		"test/mutants":          {},
		"test/rare":             {},
		"test/sim":              {},
		"test/zoo":              {},
		".":                     {},
	}
}

// onlyForTests are rooms that no program imports.
func onlyForTests() []string {
	return []string{"idem/storetest", "idem/tracetest", "rstore/fakeredis", "rstore/redistest", "proxy/backendtest", "internal/dbtest", "internal/golden", "internal/toxitest", "test", "test/history", "test/model", "test/receipts", "test/sim", "bench", "loadtest"}
}

func TestImportLaw(t *testing.T) {
	t.Parallel()
	files := 0
	walkGo(t, func(file string) {
		files++
		dir := filepath.ToSlash(filepath.Dir(file))
		law, known := laws()[dir]
		if !known {
			t.Errorf("%s: the folder %s is not in the law: add a line", file, dir)
			return
		}
		isTest := strings.HasSuffix(file, "_test.go")
		for _, imported := range importsOf(t, file) {
			if reason := breaks(law, dir, imported, isTest); reason != "" {
				t.Errorf("%s imports %s: %s", file, imported, reason)
			}
		}
	})
	if files < 30 {
		t.Errorf("only %d files were looked at", files)
	}
}

func breaks(law room, dir, imported string, isTest bool) string {
	if own, ok := strings.CutPrefix(imported, module+"/"); ok {
		switch {
		case isTest, slices.Contains(law.ours, own):
			return ""
		case slices.Contains(onlyForTests(), own):
			return "that is for tests"
		}
		return "the law of " + dir + " does not allow that room"
	}
	if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") {
		if slices.Contains(law.never, imported) && !isTest {
			return "the law of " + dir + " forbids it"
		}
		return ""
	}
	if isTest || slices.ContainsFunc(law.outside, func(m string) bool {
		return imported == m || strings.HasPrefix(imported, m+"/")
	}) {
		return ""
	}
	return "the law of " + dir + " does not allow that module"
}

// TestImportLawCanFail breaks each kind of law.
func TestImportLawCanFail(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ dir, imported string }{
		{"idem", "net/http"},
		{"idem", "github.com/redis/rueidis"},
		{"proxy", module + "/rstore"},
		{"rstore", module + "/proxy"},
		{"rstore", "github.com/valyala/fasthttp"},
		{"app", module + "/idem/storetest"},
		{"proxy", module + "/pstore"},
		{"pstore", module + "/proxy"},
		{"pstore", "github.com/valyala/fasthttp"},
		{"cli", module + "/pstore"},
		{"app", "github.com/spf13/cobra"},
		{"app", module + "/cli"},
		{"cli", module + "/rstore"},
		{"config", module + "/estore"},
		{"proxy", module + "/config"},
		{"cli", module + "/proxy"},
		{"proxy", "github.com/prometheus/client_golang/prometheus"},
		{"metrics", module + "/idem"},
	} {
		if breaks(laws()[c.dir], c.dir, c.imported, false) == "" {
			t.Errorf("%s may import %s", c.dir, c.imported)
		}
	}
}

// TestScriptsUseTheServersClock: every script that writes times asks the server for
// the time where its caller does not know the server's clock, and none has keys of
// two slots: a record's second name, and the third that a large response has on its
// way, are made for its slot, which TestP1ASlotThatMoves of rstore sees to.
func TestScriptsUseTheServersClock(t *testing.T) {
	t.Parallel()
	scripts, err := filepath.Glob("rstore/*.lua")
	if err != nil || len(scripts) == 0 {
		t.Fatal("there are no scripts")
	}
	for _, script := range scripts {
		text := read(t, script)
		if strings.Contains(text, "KEYS[4]") || strings.Contains(text, "KEYS[3]") && path.Base(script) != "settle.lua" {
			t.Errorf("%s uses more keys than a record has", script)
		}
		if slices.Contains([]string{"layout1.lua", "purge.lua"}, path.Base(script)) { // a part of others; what has no times
			continue
		}
		if !strings.Contains(text, "redis.call('TIME')") {
			t.Errorf("%s does not ask the server for the time", script)
		}
	}
}

// TestTheProxyHasNoStoreLog: what logs the calls of a store, for tests, is in no program that
// is built without its tag.
func TestTheProxyHasNoStoreLog(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		tags []string
		has  bool
	}{{nil, false}, {[]string{"failpoints", "otel"}, false}, {[]string{"storelog"}, true}} {
		rooms := map[string]bool{}
		reach(t, "cmd/proxy", c.tags, rooms)
		if rooms["internal/storelog"] != c.has || !rooms["app"] {
			t.Errorf("with the tags %v: %v", c.tags, rooms)
		}
	}
}

// reach collects the rooms that are compiled into a program, as the files say.
func reach(t *testing.T, dir string, tags []string, rooms map[string]bool) {
	t.Helper()
	with := build.Default
	with.BuildTags = tags
	room, err := with.ImportDir(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	rooms[dir] = true
	for _, imported := range room.Imports {
		if own, ok := strings.CutPrefix(imported, module+"/"); ok && !rooms[own] {
			reach(t, own, tags, rooms)
		}
	}
}

func walkGo(t *testing.T, f func(file string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (path.Base(file) == ".git" || file == "bench/rivals" || file == "deploy/validate" || file == "test/clients" || file == "test/sdk" || file == "bin"):
			return filepath.SkipDir
		case strings.HasSuffix(file, ".go"):
			f(file)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func importsOf(t *testing.T, file string) (imports []string) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range parsed.Imports {
		name, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		imports = append(imports, name)
	}
	return imports
}
