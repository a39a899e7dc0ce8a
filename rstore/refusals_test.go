package rstore_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/fakeredis"
)

// farTimeout is for how long a store waits for a reply: far longer than it takes to tell of one.
const farTimeout = time.Hour

// soon is by when a refusal is told of, in the bubble's time: after some tries.
const soon = 10 * time.Second

// TestRefusals makes up what Redis and Sentinels answer to who connects: refusals, replies of
// another kind, and nothing, after which they go on, are silent or hang up. A refusal is what
// users have to read: it is told at once, and not after store_timeout that something was late.
func TestRefusals(t *testing.T) {
	t.Parallel()
	first, n := rand.Uint64N(1<<40), uint64(400)
	if given, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		first = given
	}
	if given, err := strconv.ParseUint(os.Getenv("EPISODES"), 10, 64); err == nil {
		n = given
	}
	told := map[string]int{}
	for seed := first; seed < first+n && !t.Failed(); seed++ {
		synctest.Test(t, func(t *testing.T) {
			w := newUnwilling(rand.New(rand.NewPCG(seed, 0)))
			if why := w.play(t); why != "" {
				t.Errorf("SEED=%d: %s\n%s\nthe log:\n%s", seed, why, w, w.log.text.String())
			}
			for _, s := range w.servers() {
				for _, one := range s.troubles {
					told[one.about]++
				}
			}
		})
	}
	t.Logf("figure: %d stores, first seed %d; troubles: %v", n, first, told)
}

// unwilling is a Redis, and Sentinels that name it, not all of which let a store connect.
type unwilling struct {
	redis     *unwillingServer
	sentinels []*unwillingServer // none: the URL names the Redis
	later     bool               // all answer as they should until the store has connected, and hang up then
	log       lines
}

func newUnwilling(r *rand.Rand) *unwilling {
	w := &unwilling{redis: &unwillingServer{name: "redis.test:6379"}, later: r.IntN(3) == 0}
	for i := range oneOf(r, 0, 1, 2, 3) {
		w.sentinels = append(w.sentinels, &unwillingServer{name: fmt.Sprintf("sentinel%d.test:26379", i)})
	}
	for i, s := range w.servers() {
		about := []string{askPrimary, askPrimary, askOthers, askNews, askNews}
		if s == w.redis {
			about = []string{askHello, askHello, askInfo, askEval}
			if w.later { // who does not say any more who it is counts as another
				about = []string{askHello, askEval}
			}
		}
		for len(s.troubles) < 2 && r.IntN(3) > 0 {
			s.troubles = append(s.troubles, drawTrouble(r, oneOf(r, about...), 10*i+len(s.troubles)))
		}
		if one := s.troubles; s == w.redis && !w.later && len(one) == 1 && one[0].about != askEval {
			one[0].skips = r.IntN(2) // a store greets twice until it is connected
		}
	}
	return w
}

func oneOf[T any](r *rand.Rand, all ...T) T { return all[r.IntN(len(all))] }

func (w *unwilling) servers() []*unwillingServer {
	return append([]*unwillingServer{w.redis}, w.sentinels...)
}

func (w *unwilling) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "later: %t\n", w.later)
	for _, s := range w.servers() {
		fmt.Fprintf(&b, "%s: %v\n", s.name, s.troubles)
	}
	return b.String()
}

// password is one that nobody is to read.
const password = "hunter2"

func (w *unwilling) url() string {
	if len(w.sentinels) == 0 {
		return "redis://default:" + password + "@" + w.redis.name + "/0"
	}
	url := "redis://default:" + password + "@" + w.sentinels[0].name + "/0?master_set=it"
	for _, s := range w.sentinels[1:] {
		url += "&addr=" + s.name
	}
	return url
}

// play has a store connect, and says what is wrong with what its user is told.
func (w *unwilling) play(t *testing.T) (why string) {
	t.Helper()
	dials := map[string]*fakeredis.Server{}
	for _, s := range w.servers() {
		server := fake(t)
		s.willing = w.later
		server.SayInstead(s.answer)
		s.server, dials[s.name] = server, server
	}
	begun := time.Now()
	store, err := rstore.New(rstore.Config{
		URL: w.url(), Timeout: farTimeout, Logger: zerolog.New(&w.log),
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return dials[addr].Dial(ctx, network, addr)
		},
	})
	if err != nil {
		return "the store cannot be made: " + err.Error()
	}
	after := time.Since(begun)
	time.Sleep(soon)
	if w.later {
		if err := store.Ping(context.Background()); err != nil {
			return "before there was any trouble: " + err.Error()
		}
		w.change()
		time.Sleep(soon)
	}
	synctest.Wait()
	heard := w.log.copy()
	err = store.Ping(context.Background())
	for _, s := range w.servers() {
		if n := s.server.Conns(); n > 4 {
			return fmt.Sprintf("there are %d connections to %s", n, s.name)
		}
	}
	if why = w.judge(after, heard, err); why != "" {
		_ = store.Close()
		return why
	}
	if err := store.Close(); err != nil {
		return "closing: " + err.Error()
	}
	time.Sleep(soon) // who holds an answer back does not see that nobody waits for it
	synctest.Wait()
	for _, s := range w.servers() {
		if n := s.server.Conns(); n > 0 {
			return fmt.Sprintf("after the store was closed there are %d connections to %s", n, s.name)
		}
	}
	return ""
}

// change has the troubles begin.
func (w *unwilling) change() {
	for _, s := range w.servers() {
		s.mu.Lock()
		s.willing = false
		s.mu.Unlock()
	}
	for _, s := range w.servers() {
		s.server.HangUp()
	}
}

// judge compares what a user is told with what the servers said.
func (w *unwilling) judge(after time.Duration, log string, err error) string {
	for _, s := range w.sentinels {
		if one := s.about(askNews); one != nil && one.refusal != "" && !strings.Contains(log, one.refusal) {
			return fmt.Sprintf("no line of the log has %q", one.refusal)
		}
	}
	if strings.Contains(w.log.copy()+fmt.Sprint(err), password) {
		return fmt.Sprintf("the password is shown: %v", err)
	}
	want, works, waits := w.expected()
	if (w.later || !waits) && after > soon {
		return fmt.Sprintf("it took %v to connect, or to give up", after)
	}
	if works != (err == nil) {
		return fmt.Sprintf("whether it works: %v; it was to be %t", err, works)
	}
	if i := slices.IndexFunc(want, func(one string) bool { return !strings.Contains(fmt.Sprint(err), one) }); i >= 0 {
		return fmt.Sprintf("it is not told that the answer was %q: %v", want[i], err)
	}
	return ""
}

// expected is which refusals keep the store from working, whether anything does, and whether
// it has to wait for somebody to know.
func (w *unwilling) expected() (refusals []string, works, waits bool) {
	if w.later { // the Redis that is known is asked again, and not where it is
		return w.ofRedis(false)
	}
	for _, s := range w.sentinels {
		refusal, fails, silent := s.keepsFrom(askPrimary, askOthers)
		waits = waits || silent
		if !fails { // and the others are not asked
			return w.ofRedis(waits)
		}
		if refusal != "" {
			refusals = append(refusals, refusal)
		}
	}
	if len(w.sentinels) == 0 {
		return w.ofRedis(false)
	}
	return refusals, false, waits
}

func (w *unwilling) ofRedis(waits bool) (refusals []string, works, _ bool) {
	refusal, fails, silent := w.redis.keepsFrom(askHello, askInfo)
	if one := w.redis.about(askEval); !fails && one != nil {
		refusal, fails = one.refusal, true
	}
	if refusal != "" {
		refusals = []string{refusal}
	}
	return refusals, !fails, waits || silent
}
