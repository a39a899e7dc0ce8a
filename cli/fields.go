package cli

import (
	"errors"
	"strings"
)

// fields are header fields that were given one a flag: "Name: value", as curl takes them, or
// "Name=value". A value may have commas.
type fields map[string]string

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
	if *f == nil {
		*f = fields{}
	}
	(*f)[strings.TrimSpace(text[:at])] = strings.TrimSpace(text[at+1:])
	return nil
}
