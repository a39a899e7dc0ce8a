package logsink_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/idemproxy/idemproxy/internal/logsink"
)

// While the log is read, a line is there when Write returns, and lines keep their order.
func TestLinesAreThereAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out := &text{}
		s := logsink.New(out, func(int) { t.Error("lines were dropped") })
		for i := range 100 {
			say(s, i)
			if got := out.String(); !strings.HasSuffix(got, fmt.Sprintf("line %d\n", i)) {
				t.Fatalf("after line %d: %q", i, got)
			}
		}
		s.Flush(time.Hour)
		endOf(t, s)
	})
}

// A reader that stands still holds up one line for a second, and nobody after that. When it goes
// on, it gets all that there was room for, in its order, and how many lines are missing.
func TestAReaderThatStandsStill(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		read, write := io.Pipe()
		dropped := make(chan int, 1)
		s := logsink.New(write, func(n int) { dropped <- n })
		begun := time.Now()
		const all = 200_000
		for i := range all {
			say(s, i)
		}
		if d := time.Since(begun); d != time.Second {
			t.Errorf("held up for %v", d)
		}
		s.Flush(time.Minute)
		if d := time.Since(begun); d != time.Second+time.Minute {
			t.Errorf("flushed for %v", d)
		}
		in := bufio.NewReader(read)
		n := 0
		for missing := -1; missing < 0 || n+missing < all; n++ {
			line, err := in.ReadString('\n')
			if err != nil || line != fmt.Sprintf("line %d\n", n) {
				t.Fatalf("%q, %v, want line %d", line, err, n)
			}
			synctest.Wait()
			select {
			case missing = <-dropped:
			default:
			}
			if missing >= 0 && n+1+missing == all {
				break
			}
		}
		if n < 50_000 {
			t.Errorf("%d lines were kept", n)
		}
		go say(s, all) // waits again
		if line, err := in.ReadString('\n'); err != nil || line != fmt.Sprintf("line %d\n", all) {
			t.Errorf("afterwards: %q, %v", line, err)
		}
		endOf(t, s)
	})
}

// A destination that fails costs its lines.
func TestADestinationThatFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := logsink.New(failing{}, nil)
		begun := time.Now()
		for i := range 10 {
			say(s, i)
		}
		s.Flush(time.Hour)
		if d := time.Since(begun); d != 0 {
			t.Errorf("held up for %v", d)
		}
		endOf(t, s)
	})
}

// Many write at once, and each line is whole.
func TestLinesAreWhole(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		out := &text{}
		s := logsink.New(out, nil)
		var writers sync.WaitGroup
		for i := range 50 {
			writers.Go(func() {
				for range 20 {
					say(s, i)
				}
			})
		}
		writers.Wait()
		n := 0
		for line := range strings.Lines(out.String()) {
			var i int
			if _, err := fmt.Sscanf(line, "line %d\n", &i); err != nil || line != fmt.Sprintf("line %d\n", i) {
				t.Errorf("%q: %v", line, err)
			}
			n++
		}
		if n != 50*20 {
			t.Errorf("%d lines", n)
		}
		endOf(t, s)
	})
}

func say(s *logsink.Sink, i int) { _, _ = fmt.Fprintf(s, "line %d\n", i) }

// endOf ends the sink's goroutine, as the bubble wants.
func endOf(t *testing.T, s *logsink.Sink) {
	t.Helper()
	s.Stop()
}

type text struct {
	mu sync.Mutex
	b  strings.Builder // guarded by mu
}

func (w *text) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *text) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("nobody reads") }
