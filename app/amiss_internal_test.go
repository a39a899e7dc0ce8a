package app

import (
	"testing"
	"testing/synctest"
	"time"
)

// What lasts keeps the time at which it began, until it is over; that a store was emptied is
// said for an hour, since nothing ends it.
func TestAmiss(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var a amiss
		begun := time.Now()
		a.begin("reload_failed", "line 3")
		time.Sleep(time.Minute)
		a.begin("store_emptied", "gone")
		a.begin("reload_failed", "line 4")
		all := a.list()
		if len(all) != 2 || all[0] != (Amiss{"reload_failed", begun, "line 4", begun.Add(time.Minute)}) ||
			all[1] != (Amiss{"store_emptied", begun.Add(time.Minute), "gone", begun.Add(time.Minute)}) {
			t.Errorf("%v", all)
		}
		time.Sleep(50 * time.Minute)
		a.begin("store_emptied", "gone again")
		a.over("reload_failed")
		time.Sleep(time.Hour)
		if all = a.list(); len(all) != 1 || all[0].Text != "gone again" {
			t.Errorf("%v", all)
		}
		time.Sleep(time.Second)
		if all = a.list(); all == nil || len(all) != 0 {
			t.Errorf("%v", all)
		}
	})
}

// That no client can connect is said while it is noted each second, since the first time, and for
// a few seconds after; the next time is another.
func TestAmissWithoutAnEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var a amiss
		begun := time.Now()
		for range 60 {
			a.begin("accept_failed", "too many open files")
			time.Sleep(time.Second)
		}
		if all := a.list(); len(all) != 1 || !all[0].Since.Equal(begun) {
			t.Errorf("%v", all)
		}
		time.Sleep(5 * time.Second)
		if all := a.list(); len(all) != 0 {
			t.Errorf("%v", all)
		}
		a.begin("accept_failed", "too many open files")
		if all := a.list(); len(all) != 1 || !all[0].Since.Equal(time.Now()) {
			t.Errorf("%v", all)
		}
	})
}
