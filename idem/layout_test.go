package idem_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/idem"
)

// A record of a layout that this build does not know is refused, and the layout is named,
// however little of the record is there.
func TestALaterLayoutIsNamedWhereverItIsCut(t *testing.T) {
	t.Parallel()
	r := sampleRecord(t)
	whole := r.Append(nil)
	whole[0] = 77
	for n := 1; n <= len(whole); n++ {
		_, err := idem.DecodeRecord(whole[:n:n])
		if !errors.Is(err, idem.ErrVersion) || !strings.Contains(fmt.Sprint(err), "layout 77,") {
			t.Fatalf("the first %d bytes: %v, want an error that names layout 77", n, err)
		}
	}
}

// A record says by itself whether it has a response: one whose response is kept elsewhere, or
// is gone, can be read.
func TestARecordWithoutItsResponseCanBeRead(t *testing.T) {
	t.Parallel()
	for _, state := range []idem.State{idem.InProgress, idem.Completed, idem.Unknown} {
		want := sampleRecord(t)
		want.State, want.Response, want.ReplayUntil = state, nil, 0
		if state == idem.Completed {
			want.ReplayUntil = 30
		}
		got, err := idem.DecodeRecord(want.Append(nil))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v: got %+v, %v\nwant %+v", state, got, err, want)
		}
	}
}
