package cli_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/config"
)

// A wrong number of arguments is met with those that the command wants, and with its own help.
func TestWantedArguments(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		want, help string
		args       []string
	}{
		{"want: idemproxy inspect KEY", "Run `idemproxy inspect --help`.", []string{"inspect"}},
		{"want: idemproxy inspect KEY", "Run `idemproxy inspect --help`.", []string{"inspect", "a", "b"}},
		{"want: idemproxy restore FILE DIR", "Run `idemproxy restore --help`.", []string{"restore", "a"}},
		{"want: idemproxy list", "Run `idemproxy list --help`.", []string{"list", "a"}},
		{"want: idemproxy check", "Run `idemproxy --help` for the settings.", []string{"check", "a"}},
		{"unknown flag: --al", "Run `idemproxy resolve --help`.", []string{"resolve", "--al"}},
	} {
		if code, out := command(t, c.args...); code != 2 || !strings.Contains(out, c.want) || !strings.Contains(out, c.help) {
			t.Errorf("%v: %d %s, want %q and %q", c.args, code, out, c.want, c.help)
		}
	}
}

// Mistakes in commands and flags are met with what was perhaps meant.
func TestDidYouMean(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		want string
		args []string
	}{
		{`"lst" is no command; did you mean list?`, []string{"lst"}},
		{`"resolv" is no command; did you mean resolve?`, []string{"resolv", "k"}},
		{`did you mean --backend?`, []string{"--bakend", "x"}},
		{`did you mean --lock-ttl?`, []string{"serve", "--lock_ttl", "9s"}},
		{`"banana" is not a duration, such as 500ms, 30s, 24h or 7d`, []string{"resolve", "--all", "--older-than", "banana"}},
		{`did you mean --older-than?`, []string{"resolve", "--all", "--older-then", "1h"}},
		{`did you mean --admin?`, []string{"inspect", "k", "--admn", "x"}},
	} {
		if code, out := command(t, c.args...); code != 2 || !strings.Contains(out, c.want) {
			t.Errorf("%v: %d %s, want %q", c.args, code, out, c.want)
		}
	}
	if code, out := command(t, "xyzzy"); code != 2 || strings.Contains(out, "did you mean") {
		t.Errorf("%d %s", code, out)
	}
}

// Help has every command and every setting once, in groups.
func TestHelpIsGrouped(t *testing.T) {
	t.Parallel()
	code, out := command(t, "--help")
	d := config.Default()
	var flags []string
	for _, s := range config.Sections() {
		if !strings.Contains(out, "\n"+s.Title+":\n") {
			t.Errorf("no section %s", s.Title)
		}
		flags = append(flags, s.Flags...)
	}
	if code != 0 || len(flags) != len(slices.Compact(slices.Sorted(slices.Values(flags)))) {
		t.Errorf("%d, flags %v", code, flags)
	}
	for _, want := range []string{"Run a proxy:\n", "Its settings:\n", "Look at one that runs:\n", "Its keys:\n", "\n  inspect "} {
		if strings.Count(out, want) != 1 {
			t.Errorf("%q is there %d times", want, strings.Count(out, want))
		}
	}
	flagged := d.Flags()
	for _, name := range flags {
		if flagged.Lookup(name) == nil || strings.Count(out, "--"+name+" ") == 0 {
			t.Errorf("--%s is missing", name)
		}
	}
	n := 0
	for line := range strings.Lines(out) {
		if strings.HasPrefix(strings.TrimSpace(line), "--") {
			n++
		}
	}
	if n < len(flags) {
		t.Errorf("%d flags are shown, there are %d", n, len(flags))
	}
	if _, out := command(t, "inspect", "--help"); !strings.Contains(out, "\nFlags:\n") || !strings.Contains(out, "--scope") || strings.Contains(out, "Listening") {
		t.Errorf("inspect: %s", out)
	}
}

// Whatever prints something prints JSON, too.
func TestJSONOfCommands(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{0, `"version":`, []string{"version", "--json"}},
		{0, `{"ok":true,"errors":[],"warnings":[]}`, []string{"check", "--json"}},
		{2, `{"ok":false,"errors":["--lock-ttl: 9h0m0s cannot be used`, []string{"check", "--json", "--lock-ttl", "9h"}},
		{0, `"lock_ttl": "9s"`, []string{"config", "--json", "--lock-ttl", "9s"}},
		{0, `"retention": "180h0m0s"`, []string{"config", "--json", "--retention", "7d12h"}},
	} {
		code, out := command(t, c.args...)
		if code != c.code || !strings.Contains(out, c.want) || !json.Valid([]byte(out)) {
			t.Errorf("%v: %d %s", c.args, code, out)
		}
	}
	if code, out := command(t, "config"); code != 0 || strings.Contains(out, "json") && strings.Contains(out, "\njson:") {
		t.Errorf("%d %s", code, out)
	}
	if code, out := command(t, "check", "-c", writeFile(t, "json: true\n")); code != 2 || !strings.Contains(out, "no such setting") {
		t.Errorf("%d %s", code, out)
	}
}
