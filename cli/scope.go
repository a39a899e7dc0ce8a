package cli

import (
	"slices"
	"strconv"
	"strings"

	"github.com/idemproxy/idemproxy/admin"
)

// scopeSeparator stands between a scope's sources; no value has one.
const scopeSeparator = "\x1f"

// scopeOf is a key's scope as records have it: see caller.ParseScope.
func scopeOf(given []string) string {
	var scopes []string
	for _, one := range given {
		scopes = append(scopes, strings.Split(one, "\t")...) // as resolvers are told it
	}
	for i, one := range scopes {
		if source, value, named := strings.Cut(one, "="); named && strings.HasPrefix(source, "header:") {
			scopes[i] = strings.ToLower(source) + "=" + value
		}
	}
	slices.Sort(scopes)
	return strings.Join(scopes, scopeSeparator)
}

// shownScope is a scope as a shell takes it: the flags that name it.
func shownScope(scope string) string {
	if scope == "" {
		return ""
	}
	var flags []string
	for one := range strings.SplitSeq(scope, scopeSeparator) {
		flags = append(flags, "--scope "+quoted(one))
	}
	return strings.Join(flags, " ")
}

// shownKey is a key and its scope as a shell takes them.
func shownKey(key, scope string) string {
	return strings.TrimSpace(quoted(key) + " " + shownScope(scope))
}

// quoted is text as a POSIX shell reads it as one word; control characters, as bash does.
func quoted(text string) string {
	plain := text != "" && !strings.ContainsFunc(text, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("_-./:=@%+,", c)
	})
	switch {
	case plain:
		return text
	case strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c > '~' }):
		return "$'" + strings.ReplaceAll(strings.Trim(strconv.QuoteToASCII(text), `"`), "'", `\'`) + "'"
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// name is a record's key and scope as a shell takes them.
func name(r *admin.Record) string { return shownKey(r.Key, r.Scope) }
