package idem

import (
	"errors"
	"fmt"
	"strings"
)

// ErrUnread is that of a list which had everything but some records that cannot be read. What
// was wrong with them is in its chain, too: [ErrCorrupt] or [ErrVersion].
var ErrUnread = errors.New("cannot be read, and not listed")

// unreadNamed bounds how many records an error names.
const unreadNamed = 5

// Unread gathers which records of a list cannot be read, so that one does not keep the others
// from being listed. The zero value has none.
type Unread struct {
	n     int
	first []error
}

// Add takes the error of a record, and what the store calls it. It is false if err says that
// the store failed, and not that a record is odd: that ends the list.
func (u *Unread) Add(name string, err error) bool {
	if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
		return false
	}
	if u.n++; len(u.first) < unreadNamed {
		u.first = append(u.first, fmt.Errorf("%s (%w)", name, err))
	}
	return true
}

// Err is nil if all records could be read.
func (u *Unread) Err() error {
	if u.n == 0 {
		return nil
	}
	return &unreadError{*u}
}

// Or is Err, or err if all could be read.
func (u *Unread) Or(err error) error {
	if u.n == 0 {
		return err
	}
	return u.Err()
}

type unreadError struct{ Unread }

// Error names the first of them.
func (e *unreadError) Error() string {
	names := make([]string, len(e.first))
	for i, err := range e.first {
		names[i] = err.Error()
	}
	if others := e.n - len(e.first); others > 0 {
		names = append(names, fmt.Sprintf("%d others", others))
	}
	what := "1 record"
	if e.n > 1 {
		what = fmt.Sprintf("%d records", e.n)
	}
	return fmt.Sprintf("%s %v: %s", what, ErrUnread, strings.Join(names, ", "))
}

// Unwrap has errors.Is find what they all are, and what each of them is.
func (e *unreadError) Unwrap() []error { return append([]error{ErrUnread}, e.first...) }
