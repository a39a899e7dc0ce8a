package rstore

import (
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// MaxWaiting is how many writes to a server can wait for its replicas at once.
const MaxWaiting = maxWaiting

// FledFor is how long Sentinels may go on to name a primary after it was replaced.
const FledFor = fledFor

// Name is the record's name in Redis.
func (s *Store) Name(k idem.Key) string { return s.name(k.ID()) }

// ResponseName is that of the response which the record may outlive.
func (s *Store) ResponseName(k idem.Key) string {
	_, response := s.names(k.ID())
	return response
}

// SlotOf is a name's slot in a Cluster.
func SlotOf(name string) uint16 { return slotOf(name) }

// TagFor leads names to a shard that has these slots.
func TagFor(first, last uint16) string { return tagFor(slotRange{first, last}) }

// ShiftClock has the store believe that a single server's clock is ahead by d.
func (s *Store) ShiftClock(d time.Duration) {
	known := s.clocks.slots[0].Load()
	known.mu.Lock()
	defer known.mu.Unlock()
	known.least, known.most = known.least+d, known.most+d
}

// ClockAhead is how far ahead it believes that to be, at least.
func (s *Store) ClockAhead() time.Duration {
	known := s.clocks.slots[0].Load()
	known.mu.Lock()
	defer known.mu.Unlock()
	return known.least
}

// OlderThan says whether a version of Redis is too old.
func OlderThan(version string) bool { return olderThan(version, leastVersion) }

// ParseNews is a Sentinel's message: the primary that it is about, the server that
// follows it, and whether the failover ends without one.
func ParseNews(set, channel, message string) (from, to string, end, ok bool) {
	n, ok := parseNews(set, channel, message)
	return n.from, n.to, n.kind == newsEnd, ok
}

// ForgetClocks has the store not know what the servers' clocks show.
func (s *Store) ForgetClocks() { s.clocks.forget() }

// FindFor bounds how long Find looks.
func (s *Store) FindFor(d time.Duration) { s.findFor = d }
