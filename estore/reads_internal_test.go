package estore

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// A read that ends in the moment in which its time is over is answered, and is not late: while one
// is late, nothing new is taken.
func TestAReadThatEndsInTimeIsNotLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &Store{reads: newReads(), writes: &writes{timeout: time.Second}}
		r := &reader{asked: make(chan id, 1), answered: make(chan readAnswer, 1), timer: time.NewTimer(time.Hour)}
		s.reads.idle <- r
		want := &idem.Record{Attempt: 7}
		go func() {
			<-r.asked
			r.stage.Store(readEnded)
			time.Sleep(2 * time.Second) // the timer comes first
			r.answered <- readAnswer{record: want}
		}()
		got, err := s.read(t.Context(), id{})
		if got != want || err != nil {
			t.Errorf("%+v, %v", got, err)
		}
		if n := s.writes.late.Load(); n != 0 {
			t.Errorf("%d reads are late, though all have ended", n)
		}
	})
}
