// Package outage keeps the log short while something cannot be reached.
package outage

import "time"

// Lines says which failures of an outage are worth a line of the log: the first one, and then
// ever fewer, down to one a minute. The zero value is ready for the first failure. It is not safe
// for concurrent use.
type Lines struct {
	next  time.Time // when the next line is due
	pause time.Duration
}

// Worth says whether a failure at that time is worth a line.
func (l *Lines) Worth(at time.Time) bool {
	if at.Before(l.next) {
		return false
	}
	l.pause = min(max(2*l.pause, time.Second), time.Minute)
	l.next = at.Add(l.pause)
	return true
}

// Over ends the outage: the next failure is worth a line.
func (l *Lines) Over() { *l = Lines{} }
