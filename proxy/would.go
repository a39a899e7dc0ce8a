package proxy

// Would is what would have become of a request that is only observed: see
// Rules.Observe.
type Would uint8

// What would have been done.
const (
	WouldNothing       Would = iota // it is not observed, or has no key
	WouldExecute                    // the first with its key
	WouldReplay                     // the answer to an earlier one
	WouldConflict                   // 409, or a wait: an earlier one is still running
	WouldMismatch                   // 422
	WouldBeUnknown                  // 409: an earlier one would be held
	WouldNotReplay                  // 409: the earlier one's response would not have been kept
	WouldExpire                     // 410
	WouldRefuse                     // 400 or 413
	WouldNotBeCompared              // its body was not seen whole, or not in the form that is compared
	lastWould
)

// Woulds lists what may have been done.
func Woulds() []Would {
	all := make([]Would, 0, lastWould-1)
	for w := WouldExecute; w < lastWould; w++ {
		all = append(all, w)
	}
	return all
}

// String is the name in logs and metrics; empty for WouldNothing.
func (w Would) String() string {
	names := [...]string{
		"", "execute", "replay", "in-progress", "mismatch", "unknown", "not-replayable", "expired", "refused", "not-compared",
	}
	if int(w) < len(names) {
		return names[w]
	}
	return "invalid"
}
