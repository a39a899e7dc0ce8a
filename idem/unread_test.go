package idem_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/idem"
)

// What a list has not is named, as far as a line has room for, and what is no record's fault is
// not taken for one.
func TestUnread(t *testing.T) {
	t.Parallel()
	var u idem.Unread
	if u.Add("a", idem.ErrUnavailable) || u.Err() != nil {
		t.Errorf("an outage is taken for a record that cannot be read: %v", u.Err())
	}
	for i := range 7 {
		if !u.Add(fmt.Sprintf("name-%d", i), fmt.Errorf("%w: so it was planned", idem.ErrCorrupt)) {
			t.Fatal("a damaged record ends the list")
		}
	}
	err := u.Err()
	if !errors.Is(err, idem.ErrUnread) || !errors.Is(err, idem.ErrCorrupt) || errors.Is(err, idem.ErrVersion) {
		t.Errorf("it is not what it is: %v", err)
	}
	for _, want := range []string{"7 records", "name-0 (", "name-4 (", "2 others"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not said: %v", want, err)
		}
	}
}
