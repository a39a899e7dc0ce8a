package app

import (
	"net"
	"net/netip"
	"time"

	"github.com/idemproxy/idemproxy/admin"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy"
)

// keep has the request kept for the page and /requests, and says which number it has.
func (o *observer) keep(r *proxy.Report) uint64 {
	one := admin.Request{
		At: time.Now(), Outcome: r.Outcome.String(), Route: r.Route, Status: r.Status, Method: r.Method, Path: printable(r.Path),
		ID: loggedID(r.RequestID), Key: r.Key,
		Keyed: r.Keyed || r.Would != proxy.WouldNothing && r.Key != (idem.Key{}), Would: r.Would.String(),
		Attempt: r.Attempt, Err: r.Err, Client: peer(r),
		Settlement: r.Settlement.String(), Differs: proxy.Differs(r.Differs), Notable: notable(r),
		Duration: r.Duration, Backend: r.Backend, Waited: r.Waited, Store: r.Store,
	}
	if r.Ending != idem.Open {
		one.Ending = r.Ending.String()
	}
	return o.recent.Keep(&one)
}

// notable requests are those that did not go as usual.
func notable(r *proxy.Report) bool {
	switch r.Outcome {
	case proxy.Passed, proxy.Executed, proxy.ReplayedLocal, proxy.ReplayedStore:
		return r.Status >= 500 || r.Err != nil || r.Settlement != proxy.NotSettled || r.NoReceipt
	default:
		return true
	}
}

// peer is where the request came from, made without an allocation.
func peer(r *proxy.Report) netip.AddrPort {
	if r.Client.IsValid() {
		return netip.AddrPortFrom(r.Client, 0)
	}
	if a, ok := r.Remote.(*net.TCPAddr); ok {
		return netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), a.AddrPort().Port())
	}
	return netip.AddrPort{}
}
