package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/metrics"
)

// counted is a store that proxies share, and how often it was read whole.
type counted struct {
	mu      sync.Mutex // guards all but entries and ends, which one goroutine at a time uses
	records []idem.Record
	entries map[string]idem.Entry
	ends    map[string]time.Time
	listed  int
	err     error
}

func (c *counted) List(_ context.Context, visit func(*idem.Record) bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.listed++
	for i := range c.records {
		if !visit(&c.records[i]) {
			break
		}
	}
	return c.err
}

func (c *counted) Entries(context.Context) (all []idem.Entry, err error) {
	for name, e := range c.entries {
		e.Ended = time.Now().After(c.ends[name])
		all = append(all, e)
	}
	return all, nil
}

func (c *counted) Enter(_ context.Context, name, text string, keep time.Duration) error {
	c.entries[name], c.ends[name] = idem.Entry{Name: name, Text: text}, time.Now().Add(keep)
	return nil
}

func (*counted) Strike(context.Context, string) error { return nil }

func (c *counted) becomes(records []idem.Record, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.records, c.err = records, err
}

func (c *counted) reads() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.listed
}

// Unknown keys are counted whoever left them so, by one of the proxies that share the store,
// and at once where one was held or resolved.
func TestCensus(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &counted{entries: map[string]idem.Entry{}, ends: map[string]time.Time{}, records: []idem.Record{
			{State: idem.Completed, Created: 1000, ReadAt: 9000},
			{State: idem.Unknown, Created: 4000, ReadAt: 9000},
			{State: idem.Unknown, Created: 3000, ReadAt: 9000},
			{State: idem.InProgress, Created: 1000, ReadAt: 9000},
		}}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		var all [2]*metrics.Metrics
		var bells [2]bell
		for i := range all {
			all[i], bells[i] = metrics.New(), newBell()
			startAtZero(all[i])
			if n := valueOf(t, all[i].UnknownKeys); !math.IsNaN(n) {
				t.Errorf("%v before the first count", n)
			}
			go newCensus(s, all[i], zerolog.Nop(), time.Minute).run(ctx, bells[i])
			synctest.Wait()
		}
		says := func(i int, keys, oldest float64) {
			t.Helper()
			if n, age := valueOf(t, all[i].UnknownKeys), valueOf(t, all[i].UnknownOldest); n != keys || age != oldest {
				t.Errorf("proxy %d says %v keys, the oldest of %v s; want %v of %v", i, n, age, keys, oldest)
			}
		}
		says(0, 2, 6)
		says(1, 2, 6)
		if n := s.reads(); n != 1 {
			t.Errorf("two proxies have read the store %d times", n)
		}
		s.becomes(s.records[:2], nil)
		bells[1].ring() // it has resolved one
		time.Sleep(2 * countSoonest)
		synctest.Wait()
		says(1, 1, 5)
		time.Sleep(time.Minute + time.Minute/countApart) // of the bubble's clock
		synctest.Wait()
		if n := valueOf(t, all[0].UnknownKeys); n != 1 {
			t.Errorf("the other says %v keys, want 1", n)
		}
		s.becomes(nil, nil)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		says(0, 0, 0)
		says(1, 0, 0)
		if n := s.reads(); n > 6 {
			t.Errorf("the store was read %d times in three minutes", n)
		}
		s.becomes(make([]idem.Record, 1), errors.New("away"))
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		says(0, 0, 0) // as it was last counted
	})
}

// A count is as old as it is, whoever took it, and however late another proxy reads it.
func TestCensusOfAnother(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &counted{entries: map[string]idem.Entry{}, ends: map[string]time.Time{}, records: []idem.Record{
			{State: idem.Unknown, Created: 4000, ReadAt: 9000},
		}}
		counts, reads := newCensus(s, metrics.New(), zerolog.Nop(), time.Minute), newCensus(s, metrics.New(), zerolog.Nop(), time.Minute)
		took := time.Now()
		if _, err := counts.take(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			time.Sleep(20 * time.Second) // of the bubble's clock
			old, err := reads.take(t.Context(), false)
			if err != nil {
				t.Fatal(err)
			}
			age := time.Since(took).Seconds()
			if old.Seconds() != age {
				t.Errorf("a count of %v s before is said to be %v old", age, old)
			}
			if oldest := valueOf(t, reads.metrics.UnknownOldest); oldest != 5+age {
				t.Errorf("the oldest of %v s, %v s after a count of 5 s", oldest, age)
			}
			if at := valueOf(t, reads.metrics.UnknownCounted); at != float64(took.Unix()) {
				t.Errorf("counted at %v, want %v", at, took.Unix())
			}
		}
		if n := s.reads(); n != 1 {
			t.Errorf("two proxies have read the store %d times", n)
		}
	})
}

// A proxy that reads another one's count looks again when that ends, not when its own time is
// up: the other may be dead by then.
func TestCensusOfTheDead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &counted{entries: map[string]idem.Entry{}, ends: map[string]time.Time{}}
		if _, err := newCensus(s, metrics.New(), zerolog.Nop(), time.Minute).take(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		s.becomes([]idem.Record{{State: idem.Unknown}}, nil) // which the dead one did not count any more
		time.Sleep(50 * time.Second)                         // of the bubble's clock
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		m := metrics.New()
		go newCensus(s, m, zerolog.Nop(), time.Minute).run(ctx, newBell())
		synctest.Wait()
		if n := valueOf(t, m.UnknownKeys); n != 0 {
			t.Errorf("%v keys, and the other had counted none", n)
		}
		time.Sleep(10*time.Second + time.Minute/countApart)
		synctest.Wait()
		if n := valueOf(t, m.UnknownKeys); n != 1 {
			t.Errorf("%v keys, want 1", n)
		}
	})
}

// A clock that is wrong does not make a count older than such an entry can be, nor younger than now.
func TestCensusOfAnotherClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for wrong, want := range map[time.Duration]float64{time.Hour: 5, -time.Hour: 65} {
			c := newCensus(nil, metrics.New(), zerolog.Nop(), time.Minute)
			text, err := json.Marshal(tally{Unknown: 1, OldestMS: 5000, At: time.Now().Add(wrong).UnixNano()})
			if err != nil {
				t.Fatal(err)
			}
			c.read(string(text))
			if oldest := valueOf(t, c.metrics.UnknownOldest); oldest != want {
				t.Errorf("a clock wrong by %v: the oldest of %v s, want %v", wrong, oldest, want)
			}
		}
	})
}

// After a count that failed the next one is soon: the alert does not wait for it.
func TestCensusAfterTheStoreIsBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &counted{entries: map[string]idem.Entry{}, ends: map[string]time.Time{}, err: errors.New("away")}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		m := metrics.New()
		startAtZero(m)
		go newCensus(s, m, zerolog.Nop(), time.Hour).run(ctx, newBell())
		synctest.Wait()
		s.becomes([]idem.Record{{State: idem.Unknown}}, nil)
		time.Sleep(countAgain) // of the bubble's clock
		synctest.Wait()
		if n := valueOf(t, m.UnknownKeys); n != 1 {
			t.Errorf("%v keys, want 1", n)
		}
		time.Sleep(10 * countAgain)
		synctest.Wait()
		if n := s.reads(); n != 2 {
			t.Errorf("the store was read %d times", n)
		}
	})
}

// valueOf is what a gauge exports.
func valueOf(t *testing.T, g prometheus.Gauge) float64 {
	t.Helper()
	r := prometheus.NewRegistry()
	if err := r.Register(g); err != nil {
		t.Fatal(err)
	}
	families, err := r.Gather()
	if err != nil || len(families) != 1 {
		t.Fatalf("%d families, %v", len(families), err)
	}
	return families[0].GetMetric()[0].GetGauge().GetValue()
}

// A record that cannot be read keeps nobody from knowing of the others: they are counted, for all
// proxies, and the log says which one was not.
func TestCensusWithoutWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	var unread idem.Unread
	unread.Add("the odd one", idem.ErrCorrupt)
	s := &counted{
		entries: map[string]idem.Entry{}, ends: map[string]time.Time{}, err: unread.Err(),
		records: []idem.Record{{State: idem.Unknown, Created: 4000, ReadAt: 9000}},
	}
	var logged bytes.Buffer
	m := metrics.New()
	c := newCensus(s, m, zerolog.New(&logged), time.Minute)
	_, err := c.take(t.Context(), true)
	if n := valueOf(t, m.UnknownKeys); n != 1 || s.entries[censusEntry].Text == "" {
		t.Errorf("%v keys are counted, want 1; other proxies are told %q", n, s.entries[censusEntry].Text)
	}
	if c.report(err); !strings.Contains(logged.String(), "the odd one") || strings.Contains(logged.String(), "stays as it was") {
		t.Errorf("logged: %s", logged.String())
	}
	if rest := c.next(0, err); rest < time.Minute {
		t.Errorf("it is counted again after %v, as if the store were away", rest)
	}
}
