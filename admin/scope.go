package admin

import (
	"cmp"
	"slices"
	"strings"
)

const (
	// nextSource stands between the sources of a record's scope. No source has it.
	nextSource = "\x1f"
	// ofItself begins the scopes that the proxy makes of its own, such as those of derived keys.
	ofItself = "\x1e"
)

// ScopeOf is the scope of records that a text means. People write the sources in any order, with
// a tab between them, and the names of header fields in any case. A text that has the separator of
// records is taken as it is, and so is what follows that separator at the beginning.
func ScopeOf(text string) string {
	if exact, ok := strings.CutPrefix(text, nextSource); ok {
		return exact
	}
	parts := strings.Split(text, "\t")
	if strings.HasPrefix(text, ofItself) || strings.Contains(text, nextSource) {
		return strings.Join(parts, nextSource)
	}
	type source struct{ name, part string }
	all := make([]source, len(parts))
	for i, part := range parts {
		name, value, named := strings.Cut(part, "=")
		switch {
		case named && strings.HasPrefix(name, "header:"):
			name = strings.ToLower(name)
			all[i] = source{name, name + "=" + value}
		case named && strings.HasPrefix(name, "claim:"):
			claim, _, _ := strings.Cut(name, "@") // its issuer
			all[i] = source{decoded(claim), part}
		case named && name == "host":
			all[i] = source{name, part}
		default: // of a release whose scopes had values alone, in an order that counts
			return strings.Join(parts, nextSource)
		}
	}
	slices.SortStableFunc(all, func(a, b source) int { return cmp.Compare(a.name, b.name) })
	for i := range all {
		parts[i] = all[i].part
	}
	return strings.Join(parts, nextSource)
}

// decoded is a claim's name as the configuration has it: records have separators in it encoded.
func decoded(claim string) string {
	return strings.NewReplacer("%3D", "=", "%40", "@", "%25", "%").Replace(claim)
}

// ScopeText is a record's scope as [ScopeOf] takes it: the scope itself, unless that would be
// taken for another one.
func ScopeText(scope string) string {
	if ScopeOf(scope) == scope {
		return scope
	}
	return nextSource + scope
}
