package redact

import (
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Error is err with a text in which URLs are as URL, or Place, shows them. Where
// parts of what they hide are left, the text is another one. errors.Is and
// errors.As find what they found before.
func Error(err error, raws ...string) error {
	return changed(err, func(text string) string {
		for _, raw := range raws {
			text = clean(err, text, raw)
		}
		return text
	})
}

// Repeated is Error for an error that can have nothing of a URL but the whole, as
// it is or quoted.
func Repeated(err error, raws ...string) error {
	return changed(err, func(text string) string {
		for _, raw := range raws {
			text = replace(text, raw, Place(raw))
		}
		return text
	})
}

// Secrets is err with a text in which secrets are hidden. One of one or two
// characters is not looked for: every text has it.
func Secrets(err error, secrets ...string) error {
	return changed(err, func(text string) string {
		for _, secret := range secrets {
			if len(secret) >= leastPart {
				text = strings.ReplaceAll(text, secret, Hidden)
			}
		}
		return text
	})
}

// changed is err with another text.
func changed(err error, change func(text string) string) error {
	if err == nil {
		return nil
	}
	was := err.Error()
	if text := change(was); text != was {
		return &shownError{text: text, err: err}
	}
	return err
}

// replace puts what is shown of a URL where it stands in a text.
func replace(text, raw, shown string) string {
	if raw == "" || raw == shown {
		return text
	}
	quoted := strconv.Quote(raw)
	return strings.ReplaceAll(strings.ReplaceAll(text, raw, shown), quoted[1:len(quoted)-1], shown)
}

// shownError has another text than the error it is of.
type shownError struct {
	text string
	err  error
}

// Error implements error.
func (e *shownError) Error() string { return e.text }

// Unwrap gives errors.Is what it looks for.
func (e *shownError) Unwrap() error { return e.err }

// clean is text, an error's, without what raw hides.
func clean(err error, text, raw string) string {
	shown := Place(raw)
	if shown == raw {
		return text
	}
	text = replace(text, raw, shown)
	var about *url.Error // has the URL in a spelling of its own, or what it redirects to
	if errors.As(err, &about) {
		text = replace(text, about.URL, shown)
	}
	unread := about != nil && about.Op == "parse" && !Certain(raw) // it shows what it stumbled over
	if bare := strings.ReplaceAll(text, shown, ""); unread ||
		slices.ContainsFunc(hiddenParts(raw), func(part string) bool { return strings.Contains(bare, part) }) {
		return shown + ": why is not shown, since it may hold a password; " + Mend
	}
	return text
}

// leastPart is the length from which a part of a secret is looked for: a shorter
// one is in every text.
const leastPart = 3

// hiddenParts are what URL hides, in the spellings that errors may have.
func hiddenParts(raw string) (parts []string) {
	add := func(part string) {
		if len(part) >= leastPart {
			quoted := strconv.Quote(part)
			parts = append(parts, part, quoted[1:len(quoted)-1])
		}
	}
	spell := func(part string) {
		add(part)
		if plain, err := url.QueryUnescape(part); err == nil {
			add(plain)
		}
		if plain, err := url.PathUnescape(part); err == nil {
			add(plain)
			add(url.PathEscape(plain))
		}
	}
	hidden := raw
	if Certain(raw) {
		hidden = hiddenOf(raw)
	}
	for _, part := range strings.FieldsFunc(hidden, func(c rune) bool { return strings.ContainsRune(":/@?#&=,[] ", c) }) {
		if schemeOf(part+":") == "" {
			spell(part)
		}
	}
	return parts
}

// hiddenOf is what is not shown of a URL that is Certain: credentials, and values
// in the query.
func hiddenOf(raw string) string {
	scheme, rest, _ := strings.Cut(raw, "://")
	rest, query, _ := strings.Cut(rest, "?")
	hidden := rest[:max(strings.LastIndexByte(rest, '@'), 0)]
	for pair := range strings.SplitSeq(query, "&") {
		name, value, has := strings.Cut(pair, "=")
		switch {
		case !strings.HasPrefix(scheme, "http") && isParameter(name, value): // shown
		case has:
			hidden += "&" + value
		default:
			hidden += "&" + name
		}
	}
	return hidden
}
