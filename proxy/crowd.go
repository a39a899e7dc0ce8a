package proxy

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/idem"
)

// crowd bounds how many requests of one kind are under way at a time: of one
// caller, or with one key. It knows only those that are.
type crowd struct {
	mu      sync.Mutex
	present map[member]int // guarded by mu
}

// member is what requests have in common, within a route.
type member struct {
	route, key string
	caller     [sha256.Size]byte
}

// enter says whether one more may come in; if so, leave is due.
func (c *crowd) enter(m member, most int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.present[m] >= most {
		return false
	}
	if c.present == nil {
		c.present = map[member]int{}
	}
	c.present[m]++
	return true
}

func (c *crowd) leave(m member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.present[m]--; c.present[m] == 0 {
		delete(c.present, m)
	}
}

// crowded lets a request in, or says why not. What it returns first is due when
// the request has been answered; nil for nothing.
func (s *Server) crowded(ctx *fasthttp.RequestCtx, id *identity, r *Request) (leave func(), refusal *problem) {
	rules := id.rules
	if rules.MaxPerCaller == 0 && rules.MaxPerKey == 0 {
		return nil, nil
	}
	caller, key := member{route: r.Route, caller: id.callerOf(ctx)}, member{route: r.Route}
	if rules.MaxPerCaller > 0 && !s.crowd.enter(caller, rules.MaxPerCaller) {
		return nil, &problemCallerBusy
	}
	if rules.MaxPerKey > 0 && id.keyed {
		k := id.key.Clone()
		key.key = k.Scope() + "\x00" + k.Value()
		if !s.crowd.enter(key, rules.MaxPerKey) {
			if rules.MaxPerCaller > 0 {
				s.crowd.leave(caller)
			}
			return nil, &problemKeyBusy
		}
	}
	return func() {
		if rules.MaxPerCaller > 0 {
			s.crowd.leave(caller)
		}
		if key.key != "" {
			s.crowd.leave(key)
		}
	}, nil
}

// callerOf tells callers apart: by who they say they are, else by their address.
func (id *identity) callerOf(ctx *fasthttp.RequestCtx) [sha256.Size]byte {
	if id.binding != (idem.Binding{}) {
		return id.binding
	}
	ip := id.client(id.trustedProxies)
	if !ip.IsValid() {
		ip, _ = ipOf(ctx.RemoteAddr())
	}
	text, _ := ip.MarshalBinary()                                                // which never fails
	return sha256.Sum256(binary.BigEndian.AppendUint32(text, uint32(len(text)))) //nolint:gosec // 16 at most
}
