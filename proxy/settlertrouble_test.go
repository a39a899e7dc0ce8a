package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy"
)

// moody is an endpoint for receipts that does not always answer. It notes what it is asked.
type moody struct {
	mu     sync.Mutex
	rng    *rand.Rand                 // guarded by mu
	mood   mood                       // guarded by mu
	asked  map[idem.Owner][]time.Time // guarded by mu
	asking map[idem.Owner]int         // guarded by mu
	wrong  []string                   // guarded by mu
}

// mood is how an endpoint answers.
type mood uint8

const (
	itAnswers mood = iota
	itFails        // at once
	itIsSlow       // and fails
	itIsSilent
	itWavers // any of these, from one question to the next
)

// longSilence is for how long the proxy waits for the endpoint.
const longSilence = 10 * time.Second

var errMoody = errors.New("so it was planned")

// URL implements proxy.Receipts.
func (m *moody) URL() string { return "http://receipts.test/" }

// Find implements proxy.Receipts.
func (m *moody) Find(context.Context, idem.Key, idem.Owner) (*idem.Response, error) {
	return nil, errMoody // no operator asks here
}

// Void implements proxy.Receipts.
func (m *moody) Void(ctx context.Context, key idem.Key, attempt idem.Owner) (*idem.Response, error) {
	defer m.over(attempt)
	var pause time.Duration
	switch now := m.begin(key, attempt); now {
	case itAnswers, itWavers:
		if attempt[0]%2 == 0 {
			return nil, nil //nolint:nilnil // it is voided
		}
		return &idem.Response{Status: 201, Body: []byte("executed")}, nil
	case itFails:
	case itIsSlow:
		pause = time.Second
	case itIsSilent:
		pause = longSilence
	}
	select {
	case <-time.After(pause):
	case <-ctx.Done():
	}
	return nil, errMoody
}

func (m *moody) begin(key idem.Key, attempt idem.Owner) mood {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.asking[attempt]++; m.asking[attempt] > 1 {
		m.wrong = append(m.wrong, fmt.Sprintf("%s: the endpoint is asked about an attempt twice at a time", key.Value()))
	}
	m.asked[attempt] = append(m.asked[attempt], time.Now())
	if m.mood == itWavers {
		return mood(m.rng.IntN(int(itWavers)))
	}
	return m.mood
}

func (m *moody) over(attempt idem.Owner) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asking[attempt]--
}

func (m *moody) turn(to mood) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mood = to
}

// mostQuestions is how often an attempt may be asked about from the first question to the
// last: with a pause between two that doubles, from 50 ms during its request and from
// 200 ms afterwards, up to half a minute.
func mostQuestions(d time.Duration) int { return 16 + int(d/(30*time.Second)) }

// check says what was wrong in what was asked so far.
func (m *moody) check(t *testing.T) (questions int) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, what := range m.wrong {
		t.Error(what)
	}
	for attempt, at := range m.asked {
		questions += len(at)
		if d := at[len(at)-1].Sub(at[0]); len(at) > mostQuestions(d) {
			t.Errorf("an attempt was asked about %d times in %v, want %d at most: %x", len(at), d, mostQuestions(d), attempt)
		}
	}
	return questions
}

// TestSettlerInTrouble makes up attempts in doubt, some of them left by proxies that died,
// and troubles of the endpoint and of the store that last from seconds to half an hour.
// However long they last, the endpoint is asked about one attempt ever more rarely, and
// never twice at a time; and soon after the last trouble nothing is in doubt any more. SEED
// repeats what was random.
func TestSettlerInTrouble(t *testing.T) {
	t.Parallel()
	first, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64)
	if err != nil {
		first = rand.Uint64N(1 << 40)
	}
	for i := range uint64(24) {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			t.Logf("SEED=%d", first+i)
			synctest.Test(t, func(t *testing.T) { settleInTrouble(t, rand.New(rand.NewPCG(first+i, 0))) })
		})
	}
}

const troubledLook = time.Minute

func settleInTrouble(t *testing.T, rng *rand.Rand) {
	t.Helper()
	m := &moody{rng: rand.New(rand.NewPCG(rng.Uint64(), 1)), asked: map[idem.Owner][]time.Time{}, asking: map[idem.Owner]int{}}
	r := bubbleRig(t, lose, func(c *proxy.Config) {
		c.Receipts, c.SettleWithin, c.Policy.OnAmbiguous, c.SettleEvery = m, 2*time.Second, idem.AmbiguousSettle, troubledLook
	})
	attempts := 1 + rng.IntN(60)
	var clients sync.WaitGroup
	within := time.Duration(1+rng.IntN(60)) * time.Minute
	for i := range attempts {
		after, died := time.Duration(rng.Int64N(int64(within))), rng.IntN(3) == 0
		clients.Go(func() {
			time.Sleep(after)
			key := fmt.Sprint("k", i)
			if !died {
				r.post(key, "x")
				return
			}
			for recipe := range r.server.RecipeTexts() {
				r.leave(mustKey(key), recipe)
			}
		})
	}
	for range 1 + rng.IntN(6) {
		m.turn(itFails + mood(rng.IntN(int(itWavers))))
		mend := func() {}
		if rng.IntN(4) == 0 {
			mend = r.store.Sever()
		}
		time.Sleep(time.Duration(1+rng.IntN(1800)) * time.Second)
		mend()
	}
	clients.Wait()
	asked := m.check(t)
	m.turn(itAnswers)
	// The store takes the endings, looks find what others left, and what is silent takes its
	// time, sixteen at a time; then each is asked about within the longest pause.
	time.Sleep(time.Minute + 2*troubledLook + time.Duration(1+attempts/16)*longSilence + 30*time.Second)
	synctest.Wait()
	if s := r.server.Settling(); s.Unsettled > 0 {
		t.Errorf("%d attempts are not settled", s.Unsettled)
	}
	err := r.store.List(t.Context(), func(record *idem.Record) bool {
		if record.State == idem.Unknown {
			t.Errorf("%s is left unknown", record.Key.Value())
		}
		return true
	})
	if err != nil {
		t.Error(err)
	}
	t.Logf("figure: %d attempts, %d questions", attempts, asked)
	before := m.check(t)
	time.Sleep(time.Hour)
	if after := m.check(t); after != before {
		t.Errorf("%d questions about what is settled", after-before)
	}
}

// leave has a record be there of a proxy that died, as soon as the store can be reached.
func (r *rig) leave(key idem.Key, recipe idem.Recipe) {
	claim := idem.Claim{
		Key: key, Owner: idem.NewOwner(), TTL: time.Millisecond, Retention: 24 * time.Hour, HoldOnLapse: true, Recipe: recipe,
	}
	for {
		if _, err := r.store.Acquire(context.Background(), claim); err == nil {
			return
		}
		time.Sleep(time.Second)
	}
}
