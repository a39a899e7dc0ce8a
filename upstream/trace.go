package upstream

// Trace is told what happens to backends. Every field may be nil.
type Trace struct {
	// Down is called when a backend is left out, Up when it is let in again, Gone
	// when it is not among an upstream's backends any more.
	Down func(upstream, backend string, why error)
	Up   func(upstream, backend string)
	Gone func(upstream, backend string)
	// ResolveFailed is called when a backend's name could not be looked up; its
	// addresses stay.
	ResolveFailed func(upstream, backend string, err error)
}
