package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// limit is which values of a setting can be used, and how that is said.
type limit[T any] struct {
	ok   func(T) bool
	want string
}

// number is what has a least and a most.
type number interface{ ~int | ~int64 }

func from[T number](least, most T) limit[T] {
	return limit[T]{
		ok:   func(v T) bool { return least <= v && v <= most },
		want: fmt.Sprintf("from %s to %s", short(least), short(most)),
	}
}

// fromZero is from 0, which has a meaning.
func fromZero[T number](meaning string, most T) limit[T] {
	l := from(0, most)
	l.want = fmt.Sprintf("from 0 (%s) to %s", meaning, short(most))
	return l
}

// zeroOr takes 0, which has a meaning, besides.
func zeroOr[T number](meaning string, least, most T) limit[T] {
	l := from(least, most)
	return limit[T]{
		ok:   func(v T) bool { return v == 0 || l.ok(v) },
		want: fmt.Sprintf("0 (%s), or %s to %s", meaning, short(least), short(most)),
	}
}

// zeroOrMore takes all that is not negative.
func zeroOrMore[T number](meaning string) limit[T] {
	return limit[T]{ok: func(v T) bool { return v >= 0 }, want: fmt.Sprintf("0 (%s) or more", meaning)}
}

// noneOrTime is for the bound of something that takes time.
func noneOrTime() limit[time.Duration] {
	return that("0 (none), or 1ms or more", func(d time.Duration) bool { return d == 0 || d >= time.Millisecond })
}

// inMemory is for the size of what is held there.
func inMemory(most Size) limit[Size] {
	return limit[Size]{ok: func(v Size) bool { return v <= most }, want: "at most " + short(most) + ": it is held in memory"}
}

func oneOf[T cmp.Ordered](values ...T) limit[T] {
	last := len(values) - 1
	words := make([]string, 0, last)
	for _, v := range values[:last] {
		words = append(words, fmt.Sprint(v))
	}
	return limit[T]{
		ok:   func(v T) bool { return slices.Contains(values, v) },
		want: fmt.Sprintf("%s or %v", strings.Join(words, ", "), values[last]),
	}
}

// that is a limit in words of its own.
func that[T any](want string, ok func(T) bool) limit[T] { return limit[T]{ok: ok, want: want} }

// emptyOr takes nothing besides.
func emptyOr(want string, ok func(string) bool) limit[string] {
	return limit[string]{ok: func(v string) bool { return v == "" || ok(v) }, want: want + ", or nothing"}
}

// eachOf is for lists of 1 to most values.
func eachOf(want string, most int, ok func(string) bool) limit[[]string] {
	return limit[[]string]{want: want, ok: func(all []string) bool {
		return len(all) > 0 && len(all) <= most && !slices.ContainsFunc(all, func(v string) bool { return !ok(v) })
	}}
}

// anyOfThem is for lists that may be empty.
func anyOfThem(want string, ok func(string) bool) limit[[]string] {
	return limit[[]string]{want: want, ok: func(all []string) bool {
		return !slices.ContainsFunc(all, func(v string) bool { return !ok(v) })
	}}
}

// sameOr takes SameAs besides.
func sameOr[T number](l limit[T]) limit[T] {
	return limit[T]{ok: func(v T) bool { return v == SameAs || l.ok(v) }, want: "same, or " + l.want}
}

// short is a value as people write it: 1h, not 1h0m0s.
func short[T number](v T) string {
	switch v := any(v).(type) {
	case time.Duration:
		text := v.String()
		if strings.HasSuffix(text, "m0s") {
			text = strings.TrimSuffix(text, "0s")
		}
		if strings.HasSuffix(text, "h0m") {
			text = strings.TrimSuffix(text, "0m")
		}
		return text
	case Size:
		return v.String()
	}
	return fmt.Sprint(v)
}
