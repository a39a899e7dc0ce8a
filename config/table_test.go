package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// pond is something with settings, and deep is what a room makes of it.
type (
	pond struct {
		Depth time.Duration
		Fish  int
	}
	deep struct{ seconds float64 }
)

// pondSettings are a table of two lines.
func pondSettings() []setting[pond, deep] {
	return []setting[pond, deep]{
		&line[pond, deep, time.Duration]{
			name: "pond-depth", as: aDuration(), of: func(p *pond) *time.Duration { return &p.Depth },
			usage: "how deep it is", def: time.Minute, careful: true, limit: from(time.Second, time.Hour),
			fits: func(p *pond) string {
				if p.Fish > 9 && p.Depth < time.Minute {
					return "more for so many fish"
				}
				return ""
			},
			unset: func(p, above *pond) { p.Depth = above.Depth + time.Duration(p.Fish)*time.Second },
			to:    func(d time.Duration, r *deep) { r.seconds = d.Seconds() },
			made: func(p *pond, _ *deep) error {
				if p.Depth == 13*time.Second {
					return errors.New("not this one")
				}
				return nil
			},
		},
		&line[pond, deep, int]{name: "fish", as: aCount(), usage: "how many", live: true, of: func(p *pond) *int { return &p.Fish }},
	}
}

// A setting has a flag, two other spellings, a default, limits, a row in the
// reference and a place in a room by its line alone.
func TestOneLineIsEnough(t *testing.T) {
	t.Parallel()
	lines, p := pondSettings(), &pond{}
	defaults(lines, p)
	if p.Depth != time.Minute {
		t.Errorf("the default is %v", p.Depth)
	}
	flags, origin := flagsOf("pond", lines, p), Origin{}
	if err := flags.Parse([]string{"--pond-depth", "9s"}); err != nil || p.Depth != 9*time.Second {
		t.Errorf("as a flag: %v, %v", p.Depth, err)
	}
	if errs := loadEnv(flags, []string{envOf("pond-depth") + "=8s"}, origin); len(errs) > 0 || p.Depth != 8*time.Second {
		t.Errorf("in the environment: %v, %v", p.Depth, errs)
	}
	file := filepath.Join(t.TempDir(), "f.yaml")
	if err := os.WriteFile(file, []byte("pond_depth: 7s\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, errs := loadFile(flags, file, origin); len(errs) > 0 || p.Depth != 7*time.Second || origin["pond-depth"] != file+":1" {
		t.Errorf("in a file: %v, %v, %v", p.Depth, errs, origin)
	}
	var reference strings.Builder
	if err := printTable(&reference, lines, flags); err != nil || !strings.Contains(reference.String(), "| `--pond-depth` | `7s` |   | yes | how deep it is |\n") {
		t.Errorf("in the reference: %v, %s", err, reference.String())
	}
	var room deep
	if _, err := giveAll(lines, p, &room); err != nil || room.seconds != 7 {
		t.Errorf("in a room: %v, %v", room, err)
	}
	if got := fixed(lines, p, &pond{Depth: 1, Fish: 1}); !slices.Equal(got, []string{"pond-depth"}) {
		t.Errorf("what a change asks for a restart of is %v", got)
	}
}

// What a line says of a value is heeded, with its place in errors.
func TestLinesAreHeeded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pond pond
		want string
	}{
		{pond{Depth: time.Second}, ""},
		{pond{Depth: time.Hour}, ""},
		{pond{Depth: time.Millisecond}, "f.yaml:3: pond_depth: 1ms cannot be used: want from 1s to 1h"},
		{pond{Depth: 2 * time.Hour}, "f.yaml:3: pond_depth: 2h0m0s cannot be used: want from 1s to 1h"},
		{pond{Depth: time.Second, Fish: 10}, "f.yaml:3: pond_depth: 1s cannot be used: want more for so many fish"},
	} {
		var errs []error
		checkAll(pondSettings(), &c.pond, checker(&errs, Origin{"pond-depth": "f.yaml:3"}))
		if err := errors.Join(errs...); (err == nil) != (c.want == "") || err != nil && err.Error() != c.want {
			t.Errorf("%+v: %v, want %s", c.pond, err, c.want)
		}
	}
	p := pond{Depth: 1, Fish: 3}
	deriveUnset(pondSettings(), &p, &pond{Depth: time.Minute}, Origin{"pond-depth": "--pond-depth"})
	if p.Depth != 1 {
		t.Errorf("what was set is made %v", p.Depth)
	}
	if deriveUnset(pondSettings(), &p, &pond{Depth: time.Minute}, Origin{}); p.Depth != 63*time.Second {
		t.Errorf("what was not set is %v", p.Depth)
	}
	if name, err := giveAll(pondSettings(), &pond{Depth: 13 * time.Second}, &deep{}); err == nil || name != "pond-depth" {
		t.Errorf("the error is of %q: %v", name, err)
	}
}

// A part's settings are those of the whole, and live; its room is a part of the
// whole's.
func TestParts(t *testing.T) {
	t.Parallel()
	type (
		garden struct{ Pond pond }
		world  struct{ deep deep }
	)
	lines := partOf(pondSettings(), func(g *garden) *pond { return &g.Pond }, func(w *world) *deep { return &w.deep })
	var g garden
	var w world
	defaults(lines, &g)
	if _, err := giveAll(lines, &g, &w); err != nil || g.Pond.Depth != time.Minute || w.deep.seconds != 60 {
		t.Errorf("%+v, %+v, %v", g, w, err)
	}
	if got := fixed(lines, &g, &garden{}); got != nil {
		t.Errorf("%v asks for a restart", got)
	}
}

// How limits are said.
func TestLimits(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		from(100*time.Millisecond, time.Hour).want: "from 100ms to 1h", from[Size](1<<10, 1<<20).want: "from 1KiB to 1MiB",
		from(1, 1<<20).want: "from 1 to 1048576", from(90*time.Second, 24*time.Hour).want: "from 1m30s to 24h",
		zeroOr("none", time.Second, time.Minute).want: "0 (none), or 1s to 1m", fromZero("any", 7).want: "from 0 (any) to 7",
		oneOf("a", "b", "c").want: "a, b or c", oneOf(500, 503).want: "500 or 503", inMemory(1 << 30).want: "at most 1GiB: it is held in memory",
		sameOr(fromZero("not", time.Hour)).want: "same, or from 0 (not) to 1h", zeroOrMore[int]("any").want: "0 (any) or more",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for limit, ok := range map[int]bool{-2: false, SameAs: true, 0: true, 7: true, 8: false} {
		if sameOr(fromZero("any", 7)).ok(limit) != ok {
			t.Errorf("%d can be used: %v", limit, !ok)
		}
	}
	if l := zeroOr("none", 2, 3); !l.ok(0) || l.ok(1) || !l.ok(2) || !l.ok(3) || l.ok(4) {
		t.Error("0, or 2 to 3, is something else")
	}
	if l := eachOf("x", 2, isSomething); l.ok(nil) || !l.ok([]string{"a"}) || l.ok([]string{"a", ""}) || l.ok([]string{"a", "b", "c"}) {
		t.Error("1 to 2 of something is something else")
	}
}

func isSomething(s string) bool { return s != "" }
