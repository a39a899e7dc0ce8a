package cli

import (
	"errors"
	"strings"

	"github.com/idemproxy/idemproxy/admin"
)

// fields are header fields that were given one a flag: "Name: value", as curl takes them, or
// "Name=value". A value may have commas, and a name several values.
type fields admin.Fields

var errField = errors.New("want 'Name: value'")

// String implements pflag.Value.
func (f *fields) String() string { return "" }

// Type implements pflag.Value.
func (f *fields) Type() string { return "field" }

// Set implements pflag.Value. What is wrong with the field, the admin API says; the error does
// not show it, since a value may be a secret.
func (f *fields) Set(text string) error {
	at := strings.IndexAny(text, ":=")
	if at < 1 {
		return errField
	}
	*f = append(*f, admin.Field{Name: strings.TrimSpace(text[:at]), Value: strings.TrimSpace(text[at+1:])})
	return nil
}
