package estore_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/idemproxy/idemproxy/estore"
	"github.com/idemproxy/idemproxy/idem"
)

// A record that cannot be read does not end a list for the others, and is named after them.
func TestListsPassWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	d := engine(t, fs)
	d.clock(time.Now())
	odd := claim("odd")
	d.settled(odd, []byte{2, 2, 0, 0}, time.Now().Add(time.Hour))
	d.close()
	s := open(t, estore.Config{Dir: "data", SweepEvery: time.Hour}.OnFS(fs))
	for i := range 20 { // before it and after it
		stored(t, s, fmt.Sprint(i), 10)
	}
	acquire(t, s, claim("running"))
	seen := 0
	err := s.List(t.Context(), func(*idem.Record) bool { seen++; return true })
	id := odd.Key.ID()
	if !errors.Is(err, idem.ErrUnread) || !strings.Contains(fmt.Sprint(err), fmt.Sprintf("%x", id)) || seen != 21 {
		t.Errorf("%d of 21 are listed, %v", seen, err)
	}
	if err := s.List(t.Context(), func(*idem.Record) bool { return false }); err != nil {
		t.Errorf("a list that had enough: %v", err)
	}
}
