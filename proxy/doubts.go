package proxy

import (
	"sync"
	"time"
)

// doubts are the attempts that a settler asks about.
type doubts struct {
	most int // as many are known at a time

	mu      sync.Mutex
	all     map[doubtful]*Doubt // guarded by mu
	full    bool                // guarded by mu: some were turned away, and many are still there
	stopped bool                // guarded by mu
	gone    bool                // guarded by mu: leave has counted them
}

// admitted is what became of one that is to be added.
type admitted uint8

const (
	entered     admitted = iota
	known                // it was there
	turnedAway           // there are too many
	firstTurned          // the first that was, since there were few
	tooLate              // it is kept until leave counts it, but nobody asks about it any more
	afterAll             // as tooLate, and leave has counted already
)

// add has begin called for one that is new, before stop returns or not at all.
func (d *doubts) add(one doubtful, begin func()) admitted {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, there := d.all[one]
	switch {
	case d.gone:
		return afterAll
	case there:
		return known
	case len(d.all) >= d.most && d.full:
		return turnedAway
	case len(d.all) >= d.most:
		d.full = true
		return firstTurned
	}
	d.all[one] = &Doubt{Since: time.Now()}
	if d.stopped {
		return tooLate
	}
	begin()
	return entered
}

// asked notes that the backend was asked about one, and why it is not settled yet.
func (d *doubts) asked(one doubtful, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if doubt := d.all[one]; doubt != nil {
		doubt.Asked++
		doubt.Err = err
	}
}

// remove says whether there is room again, after some were turned away. Half of the room
// must be free for that: a look through the store, which then follows, is not for a few.
func (d *doubts) remove(one doubtful) (roomAgain bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.all, one)
	roomAgain = d.full && len(d.all) <= d.most/2
	d.full = d.full && !roomAgain
	return roomAgain
}

// stop has no further ones asked about.
func (d *doubts) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopped = true
}

// leave empties it, and says how many there were.
func (d *doubts) leave() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, d.gone = len(d.all), true
	clear(d.all)
	return n
}

func (d *doubts) of(one doubtful) (Doubt, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if doubt := d.all[one]; doubt != nil {
		return *doubt, true
	}
	return Doubt{}, false
}

// summary is how many there are, and since when there is the first.
func (d *doubts) summary() (n int, since time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, doubt := range d.all {
		if since.IsZero() || doubt.Since.Before(since) {
			since = doubt.Since
		}
	}
	return len(d.all), since
}
