package estore

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// known tells of most new keys that the disk has nothing of them, without a look
// at it. It holds every id under settledSpace, and more: what has been removed stays
// until the next round. At a start it is empty and says nothing; a round reads all
// ids in the background, and until it is through, look-ups read the disk.
//
// Rejected: a table of all ids, which takes four times the memory; to let the
// engine's own filters answer: that takes a reader, an iterator and a search in the
// memory tables for each new key, a quarter of what it costs in all.
type known struct {
	current atomic.Pointer[idSet] // what is asked; nil: nothing is known
	next    atomic.Pointer[idSet] // what a round is filling; nil: there is none
	live    atomic.Int64          // how many ids the latest round found
}

// add enters an id. The caller holds the writes' lock, and has added the record to a
// group by the time it gives it up: see Store.learn.
func (n *known) add(k id) {
	if next := n.next.Load(); next != nil { // first: a round that ends meanwhile makes it the current one
		next.add(k)
	}
	if current := n.current.Load(); current != nil {
		current.add(k)
	}
}

// lacks says that the disk has certainly nothing of k.
func (n *known) lacks(k id) bool {
	set := n.current.Load()
	return set != nil && !set.has(k)
}

// stale says that a round is due: there was none, or most ids may have been removed.
func (n *known) stale() bool {
	set := n.current.Load()
	return set == nil || set.count.Load() > 2*n.live.Load()+4*firstLayer
}

// learnLoop makes rounds.
func (s *Store) learnLoop() {
	defer close(s.learned)
	t := time.NewTicker(s.config.SweepEvery)
	defer t.Stop()
	for {
		if s.known.stale() {
			// What cannot be read is met by whoever asks for it, who is told.
			_ = s.learn()
		}
		select {
		case <-s.running.Done():
			return
		case <-t.C:
		}
	}
}

// learn makes a round. What is written after next has been set is in it; what was
// written before is in the engine by the time that the ids are read.
func (s *Store) learn() error {
	s.learning.Lock()
	defer s.learning.Unlock()
	set := newIDSet()
	s.known.next.Store(set)
	defer s.known.next.Store(nil)
	if err := s.settled(s.running); err != nil {
		return err
	}
	n, err := s.readIDs(set)
	if err != nil {
		return err
	}
	s.known.live.Store(n)
	s.known.current.Store(set)
	return nil
}

// readIDs adds the ids of all records that are not in progress.
func (s *Store) readIDs(set *idSet) (n int64, err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{settledSpace}, UpperBound: []byte{settledSpace + 1}})
	if err != nil {
		return 0, engineError(err)
	}
	pace := time.NewTicker(time.Millisecond)
	defer pace.Stop()
	for it.First(); it.Valid(); it.Next() {
		if key := it.Key(); len(key) == 1+len(id{}) {
			set.add(id(key[1:]))
		}
		if n++; n%idsAtOnce != 0 {
			continue
		}
		select { // requests come first
		case <-pace.C:
		case <-s.running.Done():
			_ = it.Close()
			return 0, s.running.Err() //nolint:wrapcheck // nobody is told
		}
	}
	return n, engineError(it.Close())
}

// idsAtOnce is how many ids a round reads in a millisecond.
const idsAtOnce = 2000

// idSet is a set of ids that may have more than were added: a list of filters, each
// twice as large as the one before. Ids are digests, so parts of them are hashes.
type idSet struct {
	count  atomic.Int64
	grow   sync.Mutex
	layers atomic.Pointer[[]*layer]
}

// layer is a Bloom filter whose bits for an id are all in one line of the
// processor's cache: 10 bits an id, 6 of which are set.
type layer struct {
	blocks []block
	room   atomic.Int64 // for so many ids more
}

type block [8]atomic.Uint64

const (
	bitsPerBlock = 512
	bitsPerID    = 10
	bitsSet      = 6
	firstLayer   = 1 << 17 // ids
	// mostLayers bounds the memory: the layers take 80 MiB, for 67 million ids.
	// With more, the last one is overfull, and more look-ups read the disk.
	mostLayers = 9
)

func newIDSet() *idSet {
	s := &idSet{}
	s.layers.Store(&[]*layer{newLayer(firstLayer)})
	return s
}

func newLayer(ids int64) *layer {
	l := &layer{blocks: make([]block, ids*bitsPerID/bitsPerBlock)}
	l.room.Store(ids)
	return l
}

func (s *idSet) add(k id) {
	s.count.Add(1)
	layers := *s.layers.Load()
	last := layers[len(layers)-1]
	if last.room.Add(-1) < 0 && len(layers) < mostLayers {
		last = s.larger(len(layers))
	}
	b, bits := last.place(k)
	for range bitsSet {
		b[bits>>6&7].Or(1 << (bits & 63))
		bits >>= 9
	}
}

// larger is the last layer, if there are more than n by now, or a new one.
func (s *idSet) larger(n int) *layer {
	s.grow.Lock()
	defer s.grow.Unlock()
	layers := *s.layers.Load()
	if len(layers) == n {
		layers = append(layers[:n:n], newLayer(firstLayer<<n))
		s.layers.Store(&layers)
	}
	return layers[len(layers)-1]
}

func (s *idSet) has(k id) bool {
	for _, l := range *s.layers.Load() {
		if l.has(k) {
			return true
		}
	}
	return false
}

func (l *layer) has(k id) bool {
	b, bits := l.place(k)
	for range bitsSet {
		if b[bits>>6&7].Load()&(1<<(bits&63)) == 0 {
			return false
		}
		bits >>= 9
	}
	return true
}

// place is the block of an id, and where its bits are in it, 9 bits each.
func (l *layer) place(k id) (b *block, bits uint64) {
	at := binary.BigEndian.Uint64(k[:8]) % uint64(len(l.blocks))
	return &l.blocks[at], binary.BigEndian.Uint64(k[8:])
}
