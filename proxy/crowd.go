package proxy

import (
	"net/netip"
	"sync"

	"github.com/idemproxy/idemproxy/caller"
)

// crowd bounds how many requests of one kind are under way at a time: of one
// caller, from one address, or with one key. It knows only those that are.
type crowd struct {
	mu      sync.Mutex
	present map[member]int // guarded by mu
}

// member is what requests have in common, within a route.
type member struct {
	kind       memberKind
	route, key string
	caller     caller.Digest
	network    netip.Addr
}

type memberKind uint8

const (
	byCredential memberKind = iota
	byCertificate
	byAddress
	byKey
)

// bounded is a member of which there may be so many at a time.
type bounded struct {
	member
	most    int
	refusal *problem
}

// enter lets all of them in, or none: then it says why not.
func (c *crowd) enter(all []bounded) (refusal *problem) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range all {
		if c.present[all[i].member] >= all[i].most {
			return all[i].refusal
		}
	}
	if c.present == nil {
		c.present = map[member]int{}
	}
	for i := range all {
		c.present[all[i].member]++
	}
	return nil
}

func (c *crowd) leave(all []bounded) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range all {
		m := all[i].member
		if c.present[m]--; c.present[m] == 0 {
			delete(c.present, m)
		}
	}
}

// crowded lets a request in, or says why not. What it returns first is due when
// the request has been answered; nil for nothing.
func (s *Server) crowded(q *request) (leave func(), refusal *problem) {
	rules := q.rules
	if rules.MaxPerCaller == 0 && rules.MaxPerAddress == 0 && rules.MaxPerKey == 0 {
		return nil, nil
	}
	return s.together(q, append(q.members(), q.keyMember()...))
}

// crowdedKey is crowded for a key that was found since.
func (s *Server) crowdedKey(q *request) (leave func(), refusal *problem) {
	all := q.keyMember()
	if len(all) == 0 {
		return nil, nil
	}
	return s.together(q, all)
}

func (q *request) keyMember() []bounded {
	if q.rules.MaxPerKey == 0 || !q.keyed {
		return nil
	}
	k := q.key.Clone()
	return []bounded{{member{kind: byKey, key: k.Scope() + "\x00" + k.Value()}, q.rules.MaxPerKey, &problemKeyBusy}}
}

func (s *Server) together(q *request, all []bounded) (leave func(), refusal *problem) {
	for i := range all {
		all[i].route = q.report.Route
	}
	if refusal = s.crowd.enter(all); refusal != nil {
		return nil, refusal
	}
	return func() { s.crowd.leave(all) }, nil
}

// members are whom a request counts for. A certificate was checked, and counts
// alone. What a client says of itself it can invent, anew for each request, so its
// address counts as well.
func (q *request) members() (all []bounded) {
	rules := q.rules
	if who, ok := q.who.Certificate(); ok {
		if rules.MaxPerCaller > 0 {
			all = append(all, bounded{member{kind: byCertificate, caller: who}, rules.MaxPerCaller, &problemCallerBusy})
		}
		return all
	}
	if rules.MaxPerCaller > 0 && q.who.Known() {
		all = append(all, bounded{member{kind: byCredential, caller: q.who.Digest()}, rules.MaxPerCaller, &problemCallerBusy})
	}
	network := q.who.Network()
	if rules.MaxPerAddress > 0 && (network.IsValid() || !q.who.Known()) {
		all = append(all, bounded{member{kind: byAddress, network: network}, rules.MaxPerAddress, &problemAddressBusy})
	}
	return all
}
