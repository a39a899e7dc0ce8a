package sim_test

import (
	"math/rand/v2"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// story is a few acts that go together: acts that know nothing of each other seldom come to the
// same. Each is drawn as all acts are, and then made likelier to be what the story needs. So a
// story ends in as many ways as there are draws.
type story struct {
	policy idem.Ambiguity // half of its episodes have this; 0: any
	tell   func(s *scene) []act
}

// stories has those twice that need more luck.
var stories = [...]story{
	{tell: takenOver},
	{tell: notTaken},
	{tell: rolledOut},
	{tell: rolledOut},
	{tell: twoOperators, policy: idem.AmbiguousHold},
	{tell: twoOperators, policy: idem.AmbiguousHold},
}

// tell makes the plan of an episode that is one story, told a few times, with others' acts in
// between.
func (p *plan) tell(r *rand.Rand) {
	p.store, p.proxies = oneOf(r, "memory", "redis", "redis"), 2
	one := oneOf(r, stories[:]...)
	if one.policy != 0 && r.IntN(2) == 0 {
		p.policy = one.policy
	}
	breaks := oneOf(r, nil, nil, []kind{takes, purges}, []kind{kills, stops, storeIs, linkIs, reloads})
	for n := range 1 + r.IntN(3) {
		here := r.IntN(2)
		s := &scene{Rand: r, plan: p, here: here, there: 1 - here, key: 2 * n % keyCount}
		p.acts = append(p.acts, one.tell(s)...)
		p.improvise(r, r.IntN(4), breaks)
	}
}

// scene is where a story is told.
type scene struct {
	*rand.Rand
	plan             *plan
	here, there, key int // two proxies
}

// act is an act of a story.
func (s *scene) act(k kind, proxy int) act {
	a := randomAct(s.Rand, s.plan, false)
	a.kind, a.key, a.proxy, a.payload, a.crowd = k, s.key, proxy, 0, 1
	a.after = oneOf(s.Rand, brisk...)
	a.upon, a.hesitates, a.away = anytime, anytime, anytime
	return a
}

// quick makes an answer quick.
func (s *scene) quick(a act) act {
	a.delay = oneOf(s.Rand, 0, 50*time.Millisecond, a.delay)
	return a
}

// uponA has an act wait for a moment, which is usually of that kind.
func (s *scene) uponA(what moment, a act) act {
	a.upon, a.after = likely(s, what, anyMoment(s.Rand)), oneOf(s.Rand, 0, 0, 20*time.Microsecond, a.after)
	return a
}

// likely is one of two, and usually the first.
func likely[T any](s *scene, one, other T) T { return oneOf(s.Rand, one, one, one, other) }

func anyMoment(r *rand.Rand) moment { return moment(r.IntN(len(moments))) }

// takenOver: a lease is taken away from a proxy that goes on, and another one executes; others
// wait at the first.
func takenOver(s *scene) []act {
	first, second, third := s.act(sends, s.here), s.act(sends, s.here), s.quick(s.act(sends, s.there))
	operator := s.act(oneOf(s.Rand, takes, purges), likely(s, s.there, s.here))
	first.delay = likely(s, oneOf(s.Rand, 15*time.Second, 35*time.Second), first.delay)
	second.delay = first.delay // it may come first
	for _, a := range []*act{&first, &second} {
		a.wait, a.patience = likely(s, longestWait, a.wait), likely(s, longestPatience, a.patience)
	}
	operator = s.uponA(aRenewal, operator)
	operator.delay, operator.hurried = likely(s, 0, operator.delay), likely(s, true, false)
	return []act{first, second, operator, s.uponA(aChange, third)}
}

// notTaken: the store does not take what a proxy asks of it, for a time, and another proxy is
// asked for the same.
func notTaken(s *scene) []act {
	store, first, second := s.act(storeIs, s.here), s.quick(s.act(sends, s.here)), s.act(sends, s.there)
	store.part = likely(s, oneOf(s.Rand, writes, endingsOf, responses), store.part)
	store.way = likely(s, oneOf(s.Rand, shut, lost, lately), store.way)
	first.end = likely(s, answers, first.end)
	second.after = oneOf(s.Rand, leisurely...)
	if store.part == writes || s.IntN(2) == 0 {
		return []act{first, s.uponA(aGrant, store), second}
	}
	return []act{store, first, second}
}

// rolledOut: a proxy is given other settings, and executes; the next proxy, which may not have
// heard of them, is asked for the same by many.
func rolledOut(s *scene) (all []act) {
	for range 2 {
		reload, first, many := s.act(reloads, s.there), s.quick(s.act(sends, s.there)), s.act(likely(s, sends, asks), s.here)
		for _, a := range []*act{&reload, &first, &many} {
			a.after = likely(s, oneOf(s.Rand, time.Millisecond, 20*time.Millisecond, 100*time.Millisecond), a.after)
		}
		first.end = likely(s, answers, first.end)
		all = append(all, reload, first, many)
		s.key = (s.key + 1) % keyCount
	}
	many := &all[len(all)-1]
	many.crowd, many.gap = likely(s, 6, 1), likely(s, 250*time.Millisecond, many.gap)
	return all
}

// twoOperators: two operators look at one attempt, and act one after the other; meanwhile it is
// tried again.
func twoOperators(s *scene) []act {
	kind := func() kind { return likely(s, oneOf(s.Rand, retries, answered), oneOf(s.Rand, takes, purges)) }
	first, one, other, second := s.quick(s.act(sends, s.here)), s.act(kind(), s.IntN(2)), s.act(kind(), s.IntN(2)), s.quick(s.act(sends, s.IntN(2)))
	for _, a := range []*act{&first, &second} {
		a.end = likely(s, oneOf(s.Rand, cuts, halves), a.end)
	}
	other.kind = oneOf(s.Rand, retries, other.kind)
	one.away = likely(s, anEnding, anyMoment(s.Rand))
	for _, a := range []*act{&one, &other} {
		a.delay, a.hurried = likely(s, 0, a.delay), likely(s, true, false)
	}
	return []act{first, s.uponA(anEnding, one), other, s.uponA(aChange, second)}
}
