package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Field is one field of a header.
type Field struct{ Name, Value string }

// Fields are a header, in its order. In JSON it is an object of names, with a text each, or with
// a list of texts where there are several fields of that name.
type Fields []Field

// MarshalJSON implements json.Marshaler.
func (f Fields) MarshalJSON() ([]byte, error) {
	values := map[string][]string{}
	for _, one := range f {
		values[one.Name] = append(values[one.Name], one.Value)
	}
	out := make(map[string]any, len(values))
	for name, all := range values {
		if out[name] = all; len(all) == 1 {
			out[name] = all[0]
		}
	}
	return json.Marshal(out) //nolint:wrapcheck // nothing to add
}

var errFields = errors.New("header: want an object of names, with a text each or with a list of texts")

// UnmarshalJSON implements json.Unmarshaler. A name may be there twice.
func (f *Fields) UnmarshalJSON(text []byte) error {
	if *f = nil; string(text) == "null" {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if begin, err := d.Token(); err != nil || begin != json.Delim('{') {
		return errFields
	}
	for d.More() {
		name, err := d.Token()
		var value any
		if err == nil {
			err = d.Decode(&value)
		}
		if err != nil {
			return fmt.Errorf("header: %w", err)
		}
		all, isList := value.([]any)
		if !isList {
			all = []any{value}
		}
		for _, one := range all {
			value, ok := one.(string)
			if !ok {
				return errFields
			}
			*f = append(*f, Field{name.(string), value}) //nolint:forcetypeassert // as JSON has it
		}
	}
	return nil
}

// endsHere are fields of one connection, or of the proxy alone. A response that comes over a wire
// is cleaned of them before it is stored.
func endsHere(name string) bool {
	return slices.Contains([]string{
		"content-length", "transfer-encoding", "connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade", "expect",
		"proxy-authenticate", "proxy-authorization", "proxy-authentication-info", "idempotency-policy", "idempotency-outcome",
	}, strings.ToLower(name))
}

// check says what is wrong with a field of a response that is to be stored.
func (f Field) check() error {
	odd := func(c rune) bool {
		return c != '-' && c != '_' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z')
	}
	switch {
	case f.Name == "" || strings.ContainsFunc(f.Name, odd):
		return fmt.Errorf("header %q: want letters, digits, - and _ for a name", f.Name)
	case endsHere(f.Name):
		return fmt.Errorf("header %q: a stored response has none: it is for one connection, or for the proxy, "+
			"which writes its own", f.Name)
	case strings.ContainsFunc(f.Value, func(c rune) bool { return c < 0x20 && c != '\t' || c == 0x7f }):
		return fmt.Errorf("header %q: want a value without control characters", f.Name)
	}
	return nil
}
