package idem

import (
	"errors"
	"fmt"
	"regexp"
)

// KeyFormat says which keys a route takes, beyond what ParseKey does. The nil
// KeyFormat takes all. Safe for concurrent use.
type KeyFormat struct {
	least   int
	what    string
	pattern *regexp.Regexp // nil for any
}

// ErrKeyFormat says that the key is well-formed, but not of the route's format.
var ErrKeyFormat = errors.New("the key does not have the format that this route requires")

// The formats that have a name: RFC 9562 section 4, in either case; and
// github.com/ulid/spec, whose first character says that it fits into 128 bits.
const (
	patternUUID = `[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}`
	patternULID = `[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25}`
)

// ParseKeyFormat takes "any", "uuid", "ulid", or a regular expression (RE2)
// that the whole key must match; and the shortest length.
func ParseKeyFormat(name string, least int) (*KeyFormat, error) {
	if least < 1 || least > MaxKeyLen {
		return nil, fmt.Errorf("%d cannot be a key's least length: want 1 to %d", least, MaxKeyLen)
	}
	f := &KeyFormat{least: least}
	switch name {
	case "", "any":
		if least == 1 {
			return nil, nil //nolint:nilnil // all keys
		}
		return f, nil
	case "uuid":
		f.what, name = "it must be a UUID", patternUUID
	case "ulid":
		f.what, name = "it must be a ULID", patternULID
	default:
		f.what = "it must match " + name
	}
	var err error
	if f.pattern, err = regexp.Compile(`^(?:` + name + `)$`); err != nil {
		return nil, fmt.Errorf("%q is neither any, uuid, ulid nor a regular expression: %w", name, err)
	}
	if takesOne(name) { // UUID, say
		return nil, fmt.Errorf("%q takes a single key: want any, uuid, ulid or a regular expression of many keys", name)
	}
	return f, nil
}

// takesOne says of an expression that it is a plain text.
func takesOne(expression string) bool {
	plain, err := regexp.Compile(expression)
	if err != nil {
		return false
	}
	_, whole := plain.LiteralPrefix()
	return whole
}

// Check returns nil or an ErrKeyFormat that says what is wanted.
func (f *KeyFormat) Check(k Key) error {
	switch {
	case f == nil:
		return nil
	case len(k.value) < f.least:
		return fmt.Errorf("%w: it must have at least %d characters", ErrKeyFormat, f.least)
	case f.pattern != nil && !f.pattern.MatchString(k.value):
		return fmt.Errorf("%w: %s", ErrKeyFormat, f.what)
	}
	return nil
}
