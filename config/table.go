package config

import (
	"reflect"

	"github.com/spf13/pflag"
)

// setting is a line of a table of settings. Flags, the environment, the YAML file,
// defaults, limits, what counts without a restart, the reference and the rooms'
// own Configs are all read off the tables, so that a new setting is a new line: see
// TestOneLineIsEnough.
//
// S is what it is kept in (Config, Rules, Upstream, Route), R what a room calls
// that (proxy.Config, proxy.Rules, ...).
type setting[S, R any] interface {
	about() about
	// bind binds the value in s to a flag.
	bind(f *pflag.FlagSet, s *S)
	// reset has s start with the default.
	reset(s *S)
	// derive fits a value that was not set to those that were; above is what s was
	// made from.
	derive(s, above *S)
	// check tells whether the value can be used.
	check(s *S, check check)
	// doubt is what a value that can be used does that was perhaps not meant; idle:
	// it does nothing.
	doubt(s *S) (does string, idle bool)
	// give hands the value to a room.
	give(s *S, room *R) error
}

// about is what is known of a setting whatever its type.
type about struct {
	name, usage string
	// live: a change needs no restart.
	live bool
	// careful: a change has records named, or requests compared, in another way.
	careful bool
	// shows is how it is shown without what may be a secret; nil: it is none.
	shows showing
	// file: it names a file whose contents are a part of the settings.
	file bool
}

// line is a setting of the type T. What it leaves out does not apply.
type line[S, R, T any] struct {
	// name is the flag's; see keyOf and envOf for the other spellings.
	name, usage string
	// of is where it is kept.
	of func(*S) *T
	// as is how it is written.
	as  kind[T]
	def T
	// limit is which values can be used by themselves; fits says what is wanted
	// instead if this one does not go with the others.
	limit limit[T]
	fits  func(*S) (want string)
	// idle says in which case the value does nothing (without something, say), odd what it
	// does that was perhaps not meant.
	idle func(*S) (when string)
	odd  func(*S) (does string)
	// unset is derive.
	unset func(s, above *S)
	// to is where a room has it; made what is made for a room of it, and of others.
	to                  func(T, *R)
	made                func(*S, *R) error
	live, careful, file bool
}

func (l *line[S, R, T]) about() about {
	return about{name: l.name, usage: l.usage, live: l.live, careful: l.careful, file: l.file, shows: l.as.shows}
}

func (l *line[S, R, T]) bind(f *pflag.FlagSet, s *S) {
	at := l.of(s)
	l.as.bind(f, at, l.name, *at, l.usage)
}

func (l *line[S, R, T]) reset(s *S) { *l.of(s) = l.def }

func (l *line[S, R, T]) derive(s, above *S) {
	if l.unset != nil {
		l.unset(s, above)
	}
}

func (l *line[S, R, T]) check(s *S, check check) {
	value := *l.of(s)
	if l.limit.ok != nil && !l.limit.ok(value) {
		check(false, l.name, l.as.given(value), l.limit.want)
		return
	}
	if l.fits != nil {
		want := l.fits(s)
		check(want == "", l.name, l.as.given(value), want)
	}
}

func (l *line[S, R, T]) doubt(s *S) (does string, idle bool) {
	if l.idle != nil && !reflect.DeepEqual(*l.of(s), l.def) {
		if when := l.idle(s); when != "" {
			return "does nothing " + when, true
		}
	}
	if l.odd != nil {
		return l.odd(s), false
	}
	return "", false
}

func (l *line[S, R, T]) give(s *S, room *R) error {
	if l.to != nil {
		l.to(*l.of(s), room)
	}
	if l.made != nil {
		return l.made(s, room)
	}
	return nil
}

// part is a setting of a part of S, which a room has as a part of R.
type part[S, R, P, Q any] struct {
	setting[P, Q]
	of   func(*S) *P
	room func(*R) *Q
}

// partOf has the settings of a part of S be settings of S. They are live: such parts
// are what routes and upstreams have of their own.
func partOf[S, R, P, Q any](lines []setting[P, Q], of func(*S) *P, room func(*R) *Q) []setting[S, R] {
	all := make([]setting[S, R], 0, len(lines))
	for _, l := range lines {
		all = append(all, &part[S, R, P, Q]{setting: l, of: of, room: room})
	}
	return all
}

func (p *part[S, R, P, Q]) about() about {
	a := p.setting.about()
	a.live = true
	return a
}

func (p *part[S, R, P, Q]) bind(f *pflag.FlagSet, s *S) { p.setting.bind(f, p.of(s)) }
func (p *part[S, R, P, Q]) reset(s *S)                  { p.setting.reset(p.of(s)) }
func (p *part[S, R, P, Q]) derive(s, above *S)          { p.setting.derive(p.of(s), p.of(above)) }
func (p *part[S, R, P, Q]) check(s *S, check check)     { p.setting.check(p.of(s), check) }
func (p *part[S, R, P, Q]) doubt(s *S) (string, bool)   { return p.setting.doubt(p.of(s)) }
func (p *part[S, R, P, Q]) give(s *S, room *R) error    { return p.setting.give(p.of(s), p.room(room)) }

// flagsOf binds all that lines are about.
func flagsOf[S, R any](name string, lines []setting[S, R], s *S) *pflag.FlagSet {
	f := pflag.NewFlagSet(name, pflag.ContinueOnError)
	f.SortFlags = false
	for _, l := range lines {
		l.bind(f, s)
	}
	return f
}

// defaults has s start with the defaults.
func defaults[S, R any](lines []setting[S, R], s *S) {
	for _, l := range lines {
		l.reset(s)
	}
}

// deriveUnset fits what was not set to what was.
func deriveUnset[S, R any](lines []setting[S, R], s, above *S, origin Origin) {
	for _, l := range lines {
		if _, set := origin[l.about().name]; !set {
			l.derive(s, above)
		}
	}
}

// checkAll tells which values can be used.
func checkAll[S, R any](lines []setting[S, R], s *S, check check) {
	for _, l := range lines {
		l.check(s, check)
	}
}

// giveAll hands all values to a room. An error is of the setting that it names.
func giveAll[S, R any](lines []setting[S, R], s *S, room *R) (name string, err error) {
	for _, l := range lines {
		if err := l.give(s, room); err != nil {
			return l.about().name, err
		}
	}
	return "", nil
}
