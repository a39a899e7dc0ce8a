package app

// bell wakes who waits for it. Ringing never waits; rings that nobody has heard yet are
// one.
type bell chan struct{}

func newBell() bell { return make(bell, 1) }

func (b bell) ring() {
	select {
	case b <- struct{}{}:
	default:
	}
}
