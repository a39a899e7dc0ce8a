package cli

import (
	"fmt"
	"strings"

	"github.com/idemproxy/idemproxy/admin"
)

// scopeSeparator stands between a scope's sources; no value has one.
const scopeSeparator = "\x1f"

// scopeOf is a key's scope as the admin API shows it: what was given is written by people.
func scopeOf(given []string) string {
	return admin.ScopeText(admin.ScopeOf(strings.Join(given, "\t"))) // as resolvers are told it
}

// shownScope is a scope as a shell takes it: the flags that name it. A scope that they would not
// lead back to, such as that of a derived key, is in one flag as it is.
func shownScope(scope string) string {
	if scope == "" {
		return ""
	}
	all := strings.Split(scope, scopeSeparator)
	if scopeOf(all) != scope || strings.HasPrefix(scope, "\x1e") {
		all = []string{scope}
	}
	var flags []string
	for _, one := range all {
		flags = append(flags, "--scope "+quoted(one))
	}
	return strings.Join(flags, " ")
}

// shownKey is a key and its scope as a shell takes them, at the end of a command.
func shownKey(key, scope string) string {
	if strings.HasPrefix(key, "-") { // it would be taken for a flag
		return strings.TrimSpace(shownScope(scope) + " -- " + quoted(key))
	}
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
		return "$'" + escaped(text) + "'"
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// escaped is text as it stands between $' and '. Octal numbers end after three digits in every shell.
func escaped(text string) string {
	var b strings.Builder
	for i := range len(text) {
		switch c := text[i]; {
		case c == '\'' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, `\%03o`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// name is a record's key and scope as a shell takes them.
func name(r *admin.Record) string { return shownKey(r.Key, r.Scope) }
