package config_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/spf13/pflag"

	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy"
)

// Each case is a YAML file, a line of dashes, and what becomes of it: the
// settings that differ from the defaults, or the exact error.
func TestCases(t *testing.T) {
	t.Parallel()
	cases, err := filepath.Glob("testdata/*.case")
	if err != nil || len(cases) < 10 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	for _, file := range cases {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			yaml, want, ok := strings.Cut(string(text), "\n----------\n")
			if !ok {
				t.Fatal("no line of dashes")
			}
			if got := outcome(t, yaml); strings.TrimSpace(got) != strings.TrimSpace(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func outcome(t *testing.T, yaml string) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "f.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	c := config.Default()
	flags := c.Flags()
	origin, err := config.Load(&c, flags, file, nil)
	if err != nil {
		return strings.ReplaceAll(err.Error(), dir+"/", "")
	}
	var out strings.Builder
	flags.VisitAll(func(f *pflag.Flag) {
		if place, ok := origin[f.Name]; ok {
			fmt.Fprintf(&out, "%s = %s (%s)\n", f.Name, f.Value, filepath.Base(place))
		}
	})
	if len(c.Routes)+len(c.Upstreams) > 0 {
		var printed strings.Builder
		if err := c.Print(&printed, flags, origin); err != nil {
			t.Fatal(err)
		}
		_, lists, _ := strings.Cut(strings.Replace(printed.String(), "\nupstreams:\n", "\nupstreams:\n\nroutes:\n", 1), "\nroutes:\n")
		out.WriteString(strings.ReplaceAll(lists, dir+"/", ""))
	}
	return out.String()
}

func load(t *testing.T, yaml string, environ []string, args ...string) (config.Config, error) {
	t.Helper()
	file := ""
	if yaml != "" {
		file = filepath.Join(t.TempDir(), "f.yaml")
		if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := config.Default()
	flags := c.Flags()
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	_, err := config.Load(&c, flags, file, environ)
	return c, err
}

func TestLaterSourcesWin(t *testing.T) {
	t.Parallel()
	c, err := load(t, "listen: :1\nadmin: 127.0.0.1:1\nnamespace: file\nbind: [A, B]\nnot_replayed: [X]",
		[]string{"IDEMPROXY_ADMIN=127.0.0.1:2", "IDEMPROXY_NAMESPACE=env", "IDEMPROXY_BIND=C,D", "OTHER=x"},
		"--namespace", "flag", "--bind", "E")
	if err != nil {
		t.Fatal(err)
	}
	got := []string{fmt.Sprint(c.Listen), c.Admin, c.Namespace, fmt.Sprint(c.Bind), fmt.Sprint(c.NotReplayed)}
	if want := []string{"[:1]", "127.0.0.1:2", "flag", "[E]", "[X]"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Kubernetes sets these for Services whose names start as our settings' do.
func TestServiceLinksAreNobodysSettings(t *testing.T) {
	t.Parallel()
	links := []string{
		"IDEMPROXY_SERVICE_HOST=10.0.0.1", "IDEMPROXY_SERVICE_PORT=80", "IDEMPROXY_SERVICE_PORT_HTTP=80",
		"IDEMPROXY_PORT=tcp://10.0.0.1:80", "IDEMPROXY_PORT_80_TCP=tcp://10.0.0.1:80", "IDEMPROXY_PORT_80_TCP_PROTO=tcp",
		"IDEMPROXY_PORT_80_TCP_PORT=80", "IDEMPROXY_PORT_80_TCP_ADDR=10.0.0.1", "IDEMPROXY_PORT_53_UDP=udp://10.0.0.1:53",
		"IDEMPROXY_ADMIN_SERVICE_HOST=10.0.0.2", "IDEMPROXY_ADMIN_PORT=tcp://10.0.0.2:8081",
	}
	c, err := load(t, "", append(links, "IDEMPROXY_NAMESPACE=pay"))
	if err != nil || c.Namespace != "pay" {
		t.Errorf("namespace %q, %v", c.Namespace, err)
	}
	for _, wrong := range []string{"IDEMPROXY_PORT=8080", "IDEMPROXY_PORT=http://x:1", "IDEMPROXY_SERVICE=x", "IDEMPROXY_LISTEN_PORT=80"} {
		if _, err := load(t, "", []string{wrong}); err == nil || !strings.Contains(err.Error(), "there is no such setting") {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}

// others are values of the settings that are not their defaults, and can be used:
// whichever of a list does, so that nobody need write one for a new setting.
var others = sync.OnceValue(func() map[string]string {
	found, d := map[string]string{}, config.Default()
	d.Flags().VisitAll(func(f *pflag.Flag) {
		for _, value := range []string{
			"1", "2", "503", "4KiB", "2MiB", "1s", "3s", "11s", "1h", "48h", "true", "wait", "hold", "reject", "allow", "round-robin",
			"sampled", "warn", "json", "uuid", "host", "none", "5xx", "method", "10.0.0.0/8", "127.0.0.1:1", "/x", "http://x:1",
			"http://x:1/y", "redis://x:1/0", "store", "observe", "5%", "json:/a", "no-key", "METHOD",
			"400", "stripe", "shopify", "X-Replayed: yes", "false",
		} {
			c := config.Default()
			flags := c.Flags()
			if flags.Set(f.Name, value) != nil || flags.Lookup(f.Name).Value.String() == f.Value.String() {
				continue
			}
			if _, err := config.Load(&c, flags, "", nil); err != nil {
				continue
			}
			if _, err := c.Proxy(); err == nil || namesFile(f.Name) {
				found[f.Name] = value
				return
			}
		}
	})
	return found
})

// namesFile says of what goes on to read a file.
func namesFile(setting string) bool {
	return slices.Contains([]string{"backend-ca", "backend-cert", "backend-key"}, setting)
}

func other(t *testing.T, setting string) string {
	t.Helper()
	value, ok := others()[setting]
	if !ok {
		t.Errorf("%s: none of the values can be used: add one", setting)
	}
	return value
}

// changedAlone checks that what is printed of the settings that differ from the defaults has
// the one that was changed, and only what its change has changed.
func changedAlone(t *testing.T, c *config.Config, name string) {
	t.Helper()
	d := config.Default()
	var changed, usual bytes.Buffer
	err := errors.Join(c.PrintChanged(&changed, c.Flags(), c.Origin), d.Print(&usual, d.Flags(), nil))
	if err != nil || !strings.Contains(changed.String(), "\n"+name+": ") {
		t.Errorf("%s: alone changed is\n%s%v", name, changed.String(), err)
	}
	for line := range strings.Lines(changed.String()) {
		if !strings.HasPrefix(line, "#") && strings.Contains(usual.String(), "\n"+line) {
			t.Errorf("%s: not changed is %s", name, line)
		}
	}
}

// With the defaults there is nothing to print, and that is said.
func TestNothingIsChanged(t *testing.T) {
	t.Parallel()
	d := config.Default()
	var changed strings.Builder
	if err := d.PrintChanged(&changed, d.Flags(), nil); err != nil || changed.String() != "# every setting has its default\n" {
		t.Errorf("%q, %v", changed.String(), err)
	}
}

// Every setting can be given in all three spellings, is printed so that it is read
// back, asks for a restart unless it is live, and is in the reference.
func TestEverySettingEverywhere(t *testing.T) {
	t.Parallel()
	var reference strings.Builder
	if err := config.Table(&reference); err != nil {
		t.Fatal(err)
	}
	d := config.Default()
	d.Flags().VisitAll(func(f *pflag.Flag) {
		value, name := other(t, f.Name), strings.ReplaceAll(f.Name, "-", "_")
		flag, err := load(t, "", nil, "--"+f.Name+"="+value)
		if err != nil {
			t.Fatalf("--%s=%s: %v", f.Name, value, err)
		}
		want := flag.Flags().Lookup(f.Name).Value.String()
		var printed bytes.Buffer
		if err := flag.Print(&printed, flag.Flags(), flag.Origin); err != nil || !strings.Contains(printed.String(), "# from --"+f.Name+"\n") {
			t.Errorf("%s: printed as\n%s%v", f.Name, printed.String(), err)
		}
		changedAlone(t, &flag, name)
		for spelling, load := range map[string]func() (config.Config, error){
			"environment": func() (config.Config, error) {
				return load(t, "", []string{config.EnvPrefix + strings.ToUpper(name) + "=" + value})
			},
			"file":    func() (config.Config, error) { return load(t, fmt.Sprintf("%s: %q", name, value), nil) },
			"printed": func() (config.Config, error) { return load(t, printed.String(), nil) },
		} {
			c, err := load()
			if err != nil {
				t.Errorf("%s as %s: %v", f.Name, spelling, err)
				continue
			}
			if got := c.Flags().Lookup(f.Name).Value.String(); got != want {
				t.Errorf("%s as %s: %q, want %q", f.Name, spelling, got, want)
			}
		}
		if changed := d.Fixed(&flag); slices.Contains(changed, f.Name) == config.Reloadable(f.Name) {
			t.Errorf("%s is live: %v, and a change of it asks for a restart: %v", f.Name, config.Reloadable(f.Name), changed)
		}
		if !strings.Contains(reference.String(), "| `--"+f.Name+"` |") {
			t.Errorf("%s is not in the reference", f.Name)
		}
	})
}

// No setting is without effect, nor has that of another: a change of it changes what
// the proxy is told, or app has it from Config.
func TestEverySettingReachesARoom(t *testing.T) {
	t.Parallel()
	var app strings.Builder
	files, err := filepath.Glob("../app/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range append(files, "../cli/main.go", "../cli/serve.go") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(file, "_test.go") {
			app.Write(text)
		}
	}
	before := config.Default()
	taken := map[string]string{} // by what they change
	told, again := proxyOf(t, &before), proxyOf(t, &before)
	if !reflect.DeepEqual(told, again) {
		t.Fatal("the proxy is told something else each time, so that nothing can be said of a change")
	}
	before.Flags().VisitAll(func(f *pflag.Flag) {
		if namesFile(f.Name) || strings.HasPrefix(f.Name, "resolver") || strings.HasPrefix(f.Name, "receipts") { // the files are not there; clients cannot be compared
			return
		}
		after, err := load(t, "", nil, "--"+f.Name+"="+other(t, f.Name))
		if err != nil {
			t.Fatal(err)
		}
		if places := placesOf("", reflect.ValueOf(told), reflect.ValueOf(proxyOf(t, &after))); len(places) > 0 {
			place := strings.Join(places, ",")
			if before := taken[place]; before != "" && !slices.Contains([]string{".Rules.Keys", ".Rules.Policy.Statuses"}, place) {
				t.Errorf("%s and %s both are %s", before, f.Name, place)
			}
			taken[place] = f.Name
			return
		}
		if field := changed(reflect.ValueOf(before), reflect.ValueOf(after)); !regexp.MustCompile(`\.` + field + `\b`).MatchString(app.String()) {
			t.Errorf("nobody has --%s from Config.%s", f.Name, field)
		}
	})
}

func proxyOf(t *testing.T, c *config.Config) proxy.Config {
	t.Helper()
	p, err := c.Proxy()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// placesOf are those where two structs differ.
func placesOf(path string, before, after reflect.Value) (places []string) {
	for i := range before.NumField() {
		f, was, is := before.Type().Field(i), before.Field(i), after.Field(i)
		switch {
		case !f.IsExported():
		case f.Type.Kind() == reflect.Struct && f.Type.Field(0).IsExported():
			places = append(places, placesOf(path+"."+f.Name, was, is)...)
		case !reflect.DeepEqual(was.Interface(), is.Interface()):
			places = append(places, path+"."+f.Name)
		}
	}
	return places
}

// changed names a field that is another.
func changed(before, after reflect.Value) string {
	for i := range before.NumField() {
		f := before.Type().Field(i)
		switch {
		case f.Name == "Origin", reflect.DeepEqual(before.Field(i).Interface(), after.Field(i).Interface()):
		case f.Anonymous:
			return changed(before.Field(i), after.Field(i))
		default:
			return f.Name
		}
	}
	return "?"
}

// A setting whose meaning says what 0 does can be 0.
func TestZeros(t *testing.T) {
	t.Parallel()
	d, zeros := config.Default(), 0
	d.Flags().VisitAll(func(f *pflag.Flag) {
		if !regexp.MustCompile(`\b0 (for|waits)`).MatchString(f.Usage) {
			return
		}
		zeros++
		if _, err := load(t, "", []string{config.EnvPrefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_")) + "=0"}); err != nil {
			t.Error(err)
		}
	})
	if zeros < 10 {
		t.Errorf("only %d settings were looked at", zeros)
	}
}

func TestDefaultsAreValid(t *testing.T) {
	t.Parallel()
	c := config.Default()
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if c.OnAmbiguous != idem.AmbiguousRelease || c.LockTTL.String() != "30s" || c.Heartbeat.String() != "10s" {
		t.Errorf("the defaults are not the customer's: %+v", c)
	}
}

// What Print writes, Load reads back to the same settings.
func TestPrintRoundTrip(t *testing.T) {
	t.Parallel()
	c, err := load(t, "", nil, "--store", "redis://x:1/0", "--bind", "A,B", "--lock-ttl", "7s", "--scope", "host",
		"--listen", "[::1]:8080", "--listen", "unix:/run/a b", "--cors-origins", "*", "--cors-headers", "*,#x,&a,!b", "--release-statuses", "5xx,401",
		"--not-replayed", "null,~,true,1.5,- ,*,#x,&a,!b")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := c.Print(&out, c.Flags(), config.Origin{}); err != nil {
		t.Fatal(err)
	}
	again, err := load(t, out.String(), nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	again.Origin, c.Origin = nil, nil
	if !reflect.DeepEqual(again, c) {
		t.Errorf("printed and read back: %+v, was %+v", again, c)
	}
}

func TestPrintHidesPasswords(t *testing.T) {
	t.Parallel()
	c, err := load(t, "", nil, "--store", "redis://user:hunter2@x:1/0", "--resolver", "http://x/?token=hunter2")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := c.Print(&out, c.Flags(), config.Origin{}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "hunter2") || !strings.Contains(out.String(), "redis://***@x:1/0") ||
		!strings.Contains(out.String(), "http://x/?***") {
		t.Error("the password is printed, or the rest is not")
	}
}

// What is wrong with a file is said without its URLs, also where they are keys.
func TestErrorsHidePasswords(t *testing.T) {
	t.Parallel()
	for _, yaml := range []string{
		"redis://user:hunter2@x:1/0: 1", "\"redis://hunter2@x\": 1\n\"redis://hunter2@x\": 2", "lock_ttl: redis://user:hunter2@x",
		"max_conns: redis://user:hunter2@x", "cache_size: redis://user:hunter2@x", "remember: redis://user:hunter2@x",
		"on_ambiguous: redis://user:hunter2@x", "on_duplicate: redis://user:hunter2@x", "wait_replicas: redis://user:hunter2@x",
		"fail_open: redis://user:hunter2@x", "max_per_address: redis://user:hunter2@x", "store: \"redis://user:hunter2@x",
		"store: [redis://user:hunter2@x", "store: redis://user: hunter2@x", "store:\n  redis://user:hunter2@x: 1",
		"routes:\n  - redis://user:hunter2@x", "routes: redis://user:hunter2@x", "redis://user:hunter2@x",
	} {
		_, err := load(t, yaml, nil)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", yaml, err)
		}
	}
}

// FuzzFile: no file makes Load panic, and what it accepts is valid.
func FuzzFile(f *testing.F) {
	f.Add("listen: :1\n")
	f.Add("bind: [a, [b]]\n")
	f.Add("lock_ttl: {a: 1}\n? x\n: y")
	f.Fuzz(func(t *testing.T, yaml string) {
		file := filepath.Join(t.TempDir(), "f.yaml")
		if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
			t.Fatal(err)
		}
		c := config.Default()
		if _, err := config.Load(&c, c.Flags(), file, nil); err != nil {
			return
		}
		if err := c.Validate(); err != nil {
			t.Errorf("accepted, and then: %v", err)
		}
	})
}
