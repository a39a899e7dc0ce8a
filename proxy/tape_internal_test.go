package proxy

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A recording goes on for as long as it says after its last reader has left, and not by an
// earlier one's time.
func TestTapeIsReadOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		gives := make(chan time.Time, 8)
		one := &tape{readOn: time.Minute, deserted: func() { gives <- time.Now() }, hold: func(int) {}, length: -1, limit: 100}
		one.start()
		read := func(first bool) *tapeReader {
			r := one.read(first, nil)
			return r
		}
		first := read(true)
		time.Sleep(2 * time.Minute)
		_ = first.Close()
		time.Sleep(50 * time.Second)
		second := read(false)
		time.Sleep(5 * time.Second)
		_ = second.Close()
		left := time.Now()
		time.Sleep(10 * time.Minute)
		if given := <-gives; given.Sub(left) != time.Minute {
			t.Errorf("given up %v after the last reader left", given.Sub(left))
		}
		if one.read(false, nil) != nil {
			t.Error("what was given up can be joined")
		}
	})
}

// Of a response that is too long to keep the last part is there: who falls behind is cut
// off, and never gets other bytes; who keeps up gets all.
func TestTapeOfALongResponse(t *testing.T) {
	t.Parallel()
	one := &tape{readOn: time.Minute, hold: func(int) {}, length: -1, limit: 10}
	one.start()
	behind, abreast := one.read(false, nil), one.read(false, nil)
	var got []byte
	for _, said := range []string{"0123456789", "abc", "defghij"} {
		_, _ = one.Write([]byte(said))
		piece, err := abreast.next(100)
		if got = append(got, piece...); err != nil {
			t.Fatal(err)
		}
	}
	if string(got) != "0123456789abcdefghij" {
		t.Errorf("got %q", got)
	}
	if piece, err := behind.next(100); !errors.Is(err, errFellBehind) {
		t.Errorf("%q, %v", piece, err)
	}
	if _, whole := one.kept(); whole || one.written() != 20 || one.read(false, nil) != nil {
		t.Error("it counts as kept")
	}
}

// Who comes to wait for a stream is woken by it, whichever of them comes first; and not by
// one that it may not read, nor after it has stopped waiting.
func TestWhoWaitsForAStreamIsWoken(t *testing.T) {
	t.Parallel()
	mine, others := tapeAsked{recipe: 1}, tapeAsked{recipe: 2}
	for name, c := range map[string]struct {
		asked        tapeAsked
		first, stops bool // the stream is there first; the one that waits stops before it comes
		want         int
	}{
		"the stream is there":       {mine, true, false, 1},
		"the stream comes":          {mine, false, false, 1},
		"another's is there":        {others, true, false, 0},
		"another's comes":           {others, false, false, 0},
		"it comes after it stopped": {mine, false, true, 0},
	} {
		var all tapes
		woken, id := 0, [16]byte{1}
		enter := func() { all.enter(id, &tape{asked: c.asked}) }
		if c.first {
			enter()
		}
		stop := all.await(id, mine, func() { woken++ })
		if c.stops {
			stop()
		}
		if !c.first {
			enter()
		}
		if stop(); woken != c.want || len(all.waiting) != 0 {
			t.Errorf("%s: woken %d times, want %d; %d still wait", name, woken, c.want, len(all.waiting))
		}
	}
}
