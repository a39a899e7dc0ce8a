package rstore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore/fakeredis"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// side is one of the two servers: a connection that acts, another that watches, and one that
// sets up.
type side struct{ actor, watcher, operator *peer }

// told are the pushes to who acted, before the reply and after it, and to who watched.
func (s side) told() [][]string {
	before := s.actor.pushes
	s.actor.pushes = nil
	return [][]string{before, s.actor.told(), s.watcher.told()}
}

// rehearsal plays operations on a real server and on the fake.
type rehearsal struct {
	real, fake side
	server     *fakeredis.Server
	clock      atomic.Int64 // what the fake's clock shows: Unix time, in ns
	skipped    int
}

// TestFakeIsLikeRedis plays operations at random on a real server and on the fake, whose
// clock shows what the real one's did just before. Their replies must be the same, and so
// must what they have then, and what they push to those who have read it. SEED repeats the
// operations, and OPERATIONS says how many there are.
//
// An operation is not compared if something ends meanwhile. What the servers have is made
// the same after each, to the millisecond.
func TestFakeIsLikeRedis(t *testing.T) {
	t.Parallel()
	seed, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64N(1 << 40)
	}
	steps, err := strconv.Atoi(os.Getenv("OPERATIONS"))
	if err != nil {
		steps = 1000
	}
	r, a := newRehearsal(t), newActs(t, seed)
	for step := range steps {
		if wrong := r.play(a); wrong != "" {
			t.Fatalf("SEED=%d, operation %d: %s", seed, step, wrong)
		}
	}
	t.Logf("figure: SEED=%d, %d operations, %d of them not compared", seed, steps, r.skipped)
}

func newRehearsal(t *testing.T) *rehearsal {
	t.Helper()
	real, fake := redistest.Start(t, "--appendonly", "no"), fakeredis.New()
	t.Cleanup(fake.Close)
	r := &rehearsal{server: fake}
	fake.SetClock(func() time.Time { return time.Unix(0, r.clock.Load()) })
	dial := func(tracks bool) (*peer, *peer) {
		conn, err := net.Dial("tcp", real.Addr)
		if err != nil {
			t.Fatal(err)
		}
		other, err := fake.Dial(context.Background(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		return newPeer(t, conn, tracks), newPeer(t, other, tracks)
	}
	r.real.actor, r.fake.actor = dial(true)
	r.real.watcher, r.fake.watcher = dial(true)
	r.real.operator, r.fake.operator = dial(false)
	r.real.operator.do("CONFIG", "SET", "appendonly", "yes", "maxmemory-policy", "noeviction")
	return r
}

func newActs(t *testing.T, seed uint64) *acts {
	t.Helper()
	key, err := idem.ParseKey("k")
	if err != nil {
		t.Fatal(err)
	}
	a := &acts{
		Rand: rand.New(rand.NewPCG(seed, 0)), scripts: newScripts(), old: map[string]string{}, key: key,
		owners:  []idem.Owner{{}, {1}, {1}, {1}, {2}},
		small:   idem.AppendResponse(nil, &idem.Response{Status: 200, Body: []byte("ok")}),
		large:   idem.AppendResponse(nil, &idem.Response{Status: 200, Body: make([]byte, 5000)}),
		briefly: []time.Duration{time.Millisecond, 3 * time.Millisecond, 10 * time.Millisecond}, hours: []time.Duration{time.Hour, 2 * time.Hour},
	}
	for _, name := range []string{"acquire1", "settle1"} {
		text, err := os.ReadFile("testdata/" + name + ".lua")
		if err != nil {
			t.Fatal(err)
		}
		a.old[name] = string(text)
	}
	return a
}

// play plays one operation, and returns what was different.
func (r *rehearsal) play(a *acts) string {
	watched := []string{"MGET", opRecord, opResponse, opStaged}
	before := r.now()
	todo := a.next(before.UnixMilli())
	mode := a.IntN(40)
	r.ready(mode, true)
	turning := append(todo.turning, r.ends(todo.ages)...)
	begin := r.now() // from here on, nothing may end
	r.clock.Store(begin.UnixNano())
	for _, s := range []side{r.real, r.fake} {
		s.watcher.all(watched, []string{"HGETALL", opHash})
	}
	real := r.real.actor.all(todo.commands...)
	toldReal := r.real.told()
	hasReal := r.has(r.real)
	end := r.now()
	fake := r.fake.actor.all(todo.commands...)
	toldFake := r.fake.told()
	hasFake := r.has(r.fake)
	r.ready(mode, false)
	r.level(hasReal)
	off := end.Sub(begin).Milliseconds() + 2
	ended := slices.ContainsFunc(slices.Concat(turning, endsIn(hasReal, begin), endsIn(hasFake, begin)), func(at int64) bool {
		return at >= begin.UnixMilli()-1 && at <= end.UnixMilli()+1
	})
	if ended {
		r.skipped++
		return ""
	}
	if todo.parts > 0 {
		real[0], fake[0] = sorted(real[0], todo.parts), sorted(fake[0], todo.parts)
	}
	switch {
	case !allAlike(real, fake, off):
		return fmt.Sprintf("%v: Redis answers %v, the fake %v", todo, brief(real), brief(fake))
	case fmt.Sprint(toldReal) != fmt.Sprint(toldFake):
		return fmt.Sprintf("%v: Redis tells %v, the fake %v", todo, toldReal, toldFake)
	case !statesAlike(hasReal, hasFake, off):
		return fmt.Sprintf("%v: Redis then has %v, the fake %v", todo, hasReal, hasFake)
	}
	return ""
}

// ready has the servers be full, or be replicas, or neither again.
func (r *rehearsal) ready(mode int, is bool) {
	switch mode {
	case 0, 1:
		r.server.SetOOM(is)
		r.real.operator.do("CONFIG", "SET", "maxmemory", map[bool]string{true: "1", false: "0"}[is])
	case 2:
		r.server.SetReadOnly(is)
		r.real.operator.do(map[bool][]string{true: {"REPLICAOF", "127.0.0.1", "1"}, false: {"REPLICAOF", "NO", "ONE"}}[is]...)
	}
}

// now is what the real server's clock shows.
func (r *rehearsal) now() time.Time {
	parts := r.real.operator.do("TIME").([]any)               //nolint:forcetypeassert // TIME's
	seconds, _ := strconv.ParseInt(parts[0].(string), 10, 64) //nolint:forcetypeassert // TIME's
	micros, _ := strconv.ParseInt(parts[1].(string), 10, 64)  //nolint:forcetypeassert // TIME's
	return time.Unix(seconds, micros*1000)
}

// state is what a server has: of each name the value, and for how long.
type state map[string]stands

type stands struct {
	value any
	life  int64 // as PTTL says it
}

func (s stands) String() string { return fmt.Sprintf("%.300q for %d ms", s.value, s.life) }

func (r *rehearsal) has(s side) state {
	var commands [][]string
	for _, name := range opNames() {
		commands = append(commands, []string{"GET", name}, []string{"HGETALL", name}, []string{"PTTL", name})
	}
	has, replies := state{}, s.operator.all(commands...)
	for i, name := range opNames() {
		value, life := replies[3*i], replies[3*i+2].(int64) //nolint:forcetypeassert // PTTL's
		if _, wrong := value.(fault); wrong {
			value = sorted(replies[3*i+1], 2)
		}
		has[name] = stands{value, life}
	}
	return has
}

// ends are when something ends that the real server has, or is as old as that.
func (r *rehearsal) ends(ages []int64) []int64 {
	has := r.has(r.real)
	all := append(endsIn(has, r.now()), r.expire()...)
	if text, ok := has[opRecord].value.(string); ok {
		times, _ := timesIn(text)
		for _, at := range times {
			for _, age := range ages {
				all = append(all, at+age)
			}
		}
	}
	return all
}

// expire are when its keys end.
func (r *rehearsal) expire() (all []int64) {
	for _, name := range opNames() {
		all = append(all, r.real.operator.do("PEXPIRETIME", name).(int64)) //nolint:forcetypeassert // a number
	}
	return all
}

// endsIn are when something ends of what a server has at a time.
func endsIn(s state, now time.Time) (all []int64) {
	for _, has := range s {
		if text, ok := has.value.(string); ok && len(text) > 60 {
			if times, _ := timesIn(text); len(times) > 0 {
				all = append(all, times[0], times[len(times)-1])
			}
		}
		if has.life >= 0 {
			all = append(all, now.UnixMilli()+has.life)
		}
	}
	return all
}

func allAlike(real, fake []any, off int64) bool {
	for i := range real {
		if !alike(real[i], fake[i], off) {
			return false
		}
	}
	return true
}

func statesAlike(real, fake state, off int64) bool {
	for name, r := range real {
		f := fake[name]
		if !alike(r.value, f.value, off) || r.life != f.life && (r.life < 0 || f.life < 0 || !near(r.life, f.life, off)) {
			return false
		}
	}
	return true
}

// level has both servers have what the real one has, and nobody remembered.
func (r *rehearsal) level(has state) {
	ends := r.expire()
	var commands [][]string
	for i, name := range opNames() {
		commands = append(commands, []string{"SET", name, ""}, []string{"DEL", name})
		switch value := has[name].value.(type) {
		case string:
			set := []string{"SET", name, value}
			if ends[i] > 0 {
				set = append(set, "PXAT", strconv.FormatInt(ends[i], 10))
			}
			commands = append(commands, set)
		case []any:
			for at := 0; at < len(value); at += 2 {
				commands = append(commands, []string{"HSET", name, value[at].(string), value[at+1].(string)}) //nolint:forcetypeassert // a hash's
			}
		}
	}
	for _, s := range []side{r.real, r.fake} {
		s.operator.all(commands...)
		s.actor.told()
		s.watcher.told()
	}
}

// brief shows replies.
func brief(replies []any) string {
	text := strings.ReplaceAll(fmt.Sprintf("%#v", replies), "interface {}", "any")
	return text[:min(len(text), 600)]
}
