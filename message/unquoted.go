package message

import "strings"

// Unquoted is err without what its text quotes of a message: the library's errors repeat fields
// and targets, which may have credentials, keys and card numbers, and errors are logged. errors.Is
// and errors.As find what they find in err. nil stays nil.
func Unquoted(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	end := strings.IndexAny(text, "\"'`")
	if contents := strings.Index(text, "contents:"); contents >= 0 && (end < 0 || contents < end) {
		end = contents
	}
	if end < 0 {
		return err
	}
	return &unquoted{err, strings.TrimRight(text[:end], " :,(")}
}

type unquoted struct {
	err  error
	text string
}

// Error implements error.
func (u *unquoted) Error() string { return u.text }

// Unwrap gives errors.Is what it looks for.
func (u *unquoted) Unwrap() error { return u.err }
