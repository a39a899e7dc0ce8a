package app

import (
	"maps"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy"
)

// wouldCounters are a route's: one for each proxy.Would, and that of keys held.
type wouldCounters struct {
	all  []prometheus.Counter // WouldNothing has none
	held prometheus.Counter
}

// observes says that some of a route's requests are only observed.
func observes(r *config.Rules) bool { return r.Observe || r.Enforce < config.Wholly }

// wouldsOf are a route's counters, as outcomesOf has those of outcomes.
func (o *observer) wouldsOf(route string) wouldCounters {
	for {
		known := o.woulds.Load()
		if all, ok := (*known)[route]; ok {
			return all
		}
		label := route
		if label == "" {
			label = "default"
		}
		mine := wouldCounters{all: make([]prometheus.Counter, 1), held: o.metrics.WouldHold.WithLabelValues(label)}
		for _, would := range proxy.Woulds() {
			mine.all = append(mine.all, o.metrics.Would.WithLabelValues(would.String(), label))
		}
		next := maps.Clone(*known)
		next[strings.Clone(route)] = mine
		if o.woulds.CompareAndSwap(known, &next) {
			return mine
		}
	}
}

func (o *observer) wouldHold(route string) { o.wouldsOf(route).held.Inc() }

// would adds what would have become of a request, under which key.
func (o *observer) would(e *zerolog.Event, r *proxy.Report) *zerolog.Event {
	e = e.Stringer("would", r.Would)
	if r.Key != (idem.Key{}) {
		e = o.key(e, r.Key)
	}
	if r.WouldEnd != idem.Open {
		e = e.Stringer("would_end", r.WouldEnd)
	}
	return e
}
