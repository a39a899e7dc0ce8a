package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/pflag"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/redact"
)

// kind is how values of a type are written and read.
type kind[T any] struct {
	bind func(f *pflag.FlagSet, at *T, name string, def T, usage string)
	// shows is how it is shown; nil: as it is.
	shows showing
	// given is what an error shows.
	given func(T) any
}

func textShown(as showing, isURL bool) kind[string] {
	return kind[string]{
		bind: (*pflag.FlagSet).StringVar, shows: as,
		given: func(s string) any { return quoted{values: []string{s}, shows: as, areURL: isURL} },
	}
}

func aText() kind[string]      { return textShown(plainly(), false) }
func aURL() kind[string]       { return textShown(each(redact.URL), true) }
func aURLOrFile() kind[string] { return textShown(each(redact.Place), false) }
func aPath() kind[string]      { return textShown(each(redact.Path), false) }
func anAddress() kind[string]  { return textShown(each(redact.Addr), false) }

func listShown(as showing, areURL bool) kind[[]string] {
	return kind[[]string]{
		bind: (*pflag.FlagSet).StringSliceVar, shows: as,
		given: func(all []string) any { return quoted{values: all, shows: as, areURL: areURL} },
	}
}

func aList() kind[[]string]     { return listShown(plainly(), false) }
func origins() kind[[]string]   { return listShown(redact.URLs, true) }
func addresses() kind[[]string] { return listShown(each(placeOf), false) }

func aDuration() kind[time.Duration] {
	k := valued(func(d *time.Duration) pflag.Value { return (*days)(d) })
	k.given = func(d time.Duration) any { return d }
	return k
}

func aCount() kind[int] {
	return kind[int]{bind: (*pflag.FlagSet).IntVar, given: func(n int) any { return n }}
}

func aSwitch() kind[bool] {
	return kind[bool]{bind: (*pflag.FlagSet).BoolVar, given: func(yes bool) any { return yes }}
}

// valued is a kind that has a pflag.Value of ours.
func valued[T any](value func(*T) pflag.Value) kind[T] {
	return kind[T]{
		bind:  func(f *pflag.FlagSet, at *T, name string, _ T, usage string) { f.Var(value(at), name, usage) },
		given: func(v T) any { return value(&v).String() },
	}
}

func aSize() kind[Size]       { return valued(func(s *Size) pflag.Value { return s }) }
func aSizeOrZero() kind[Size] { return valued(func(s *Size) pflag.Value { return (*sizeOrNone)(s) }) }

func aNumberOfReplicas() kind[Replicas] { return valued(func(r *Replicas) pflag.Value { return r }) }

func aCountOrSame() kind[int] { return valued(func(n *int) pflag.Value { return (*countOrSame)(n) }) }

func aDurationOrSame() kind[time.Duration] {
	return valued(func(d *time.Duration) pflag.Value { return (*durationOrSame)(d) })
}

func anAmbiguity() kind[idem.Ambiguity] {
	return valued(func(a *idem.Ambiguity) pflag.Value { return (*ambiguity)(a) })
}

func eitherOr(no, yes string) kind[bool] {
	return valued(func(to *bool) pflag.Value { return &choice{to, no, yes} })
}

// Size is a number of bytes, written with a unit: 64KiB, 1MiB.
type Size int64

// String implements pflag.Value.
func (s *Size) String() string {
	return strings.NewReplacer(" ", "", ".0 ", "").Replace(humanize.IBytes(uint64(*s))) //nolint:gosec // never negative, see Set
}

// Set implements pflag.Value.
func (s *Size) Set(text string) error {
	n, err := humanize.ParseBytes(text)
	if err != nil || n == 0 || n > 1<<40 {
		return fmt.Errorf("%q is not a size from 1B to 1TiB, such as 64KiB or 1MiB", text)
	}
	*s = Size(n)
	return nil
}

// Type implements pflag.Value.
func (*Size) Type() string { return "size" }

// Replicas is a number of replicas, or AllReplicas.
type Replicas int

// AllReplicas is written "all".
const AllReplicas Replicas = -1

// String implements pflag.Value.
func (r *Replicas) String() string {
	if *r == AllReplicas {
		return "all"
	}
	return strconv.Itoa(int(*r))
}

// Set implements pflag.Value.
func (r *Replicas) Set(text string) error {
	if text == "all" {
		*r = AllReplicas
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > 100 {
		return fmt.Errorf("%q is not a number from 0 to 100, nor all", text)
	}
	*r = Replicas(n)
	return nil
}

// Type implements pflag.Value.
func (*Replicas) Type() string { return "replicas" }

// sizeOrNone is a Size that may be 0.
type sizeOrNone Size

// String implements pflag.Value.
func (s *sizeOrNone) String() string {
	if *s == 0 {
		return "0"
	}
	return (*Size)(s).String()
}

// Set implements pflag.Value.
func (s *sizeOrNone) Set(text string) error {
	if text == "0" {
		*s = 0
		return nil
	}
	return (*Size)(s).Set(text)
}

// Type implements pflag.Value.
func (*sizeOrNone) Type() string { return "size" }

// ambiguity is idem.Ambiguity as a flag.
type ambiguity idem.Ambiguity

// String implements pflag.Value.
func (a *ambiguity) String() string { return idem.Ambiguity(*a).String() }

// Set implements pflag.Value.
func (a *ambiguity) Set(text string) error {
	return (*idem.Ambiguity)(a).UnmarshalText([]byte(text))
}

// Type implements pflag.Value.
func (*ambiguity) Type() string { return "policy" }

// durationOrSame is a duration, or SameAs.
type durationOrSame time.Duration

const wordSame = "same"

// String implements pflag.Value.
func (d *durationOrSame) String() string {
	if *d == SameAs {
		return wordSame
	}
	return time.Duration(*d).String()
}

// Set implements pflag.Value.
func (d *durationOrSame) Set(text string) error {
	if text == wordSame {
		*d = SameAs
		return nil
	}
	n, err := parseDuration(text)
	if err != nil || n < 0 {
		return fmt.Errorf("%q is neither %q nor a time such as 24h or 7d", text, wordSame)
	}
	*d = durationOrSame(n)
	return nil
}

// Type implements pflag.Value.
func (*durationOrSame) Type() string { return "duration" }

// countOrSame is a number, or SameAs.
type countOrSame int

// String implements pflag.Value.
func (n *countOrSame) String() string {
	if *n == SameAs {
		return wordSame
	}
	return strconv.Itoa(int(*n))
}

// Set implements pflag.Value.
func (n *countOrSame) Set(text string) error {
	if text == wordSame {
		*n = SameAs
		return nil
	}
	i, err := strconv.Atoi(text)
	if err != nil || i < 0 {
		return fmt.Errorf("%q is neither %q nor a number", text, wordSame)
	}
	*n = countOrSame(i)
	return nil
}

// Type implements pflag.Value.
func (*countOrSame) Type() string { return "int" }

// choice is a setting with two words to choose from.
type choice struct {
	to      *bool
	no, yes string
}

// String implements pflag.Value.
func (c *choice) String() string {
	if *c.to {
		return c.yes
	}
	return c.no
}

// Set implements pflag.Value.
func (c *choice) Set(text string) error {
	if text != c.no && text != c.yes {
		return fmt.Errorf("%q is neither %q nor %q", text, c.no, c.yes)
	}
	*c.to = text == c.yes
	return nil
}

// Type implements pflag.Value.
func (*choice) Type() string { return "policy" }
