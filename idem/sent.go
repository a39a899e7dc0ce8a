package idem

// Sent is what a forward can prove about the backend. It is what decides
// whether a key may be freed; error texts never do.
type Sent uint8

const (
	// MayHaveExecuted says that at least one byte of the request was written and no
	// whole answer came back. The zero value, so that forgetting to set it errs
	// on the safe side.
	MayHaveExecuted Sent = iota
	// NothingSent says that not one byte of the request was written.
	NothingSent
	// Answered says that a whole, well-formed response was read.
	Answered
	// Receipted says that the backend has a receipt of the operation: it was executed,
	// and the receipt's response is final, whatever its status.
	Receipted
	// Voided says that the backend has voided the attempt: it has no effect, and can
	// never have one.
	Voided
)

// String is the name in logs and metrics.
func (s Sent) String() string {
	switch s {
	case MayHaveExecuted:
		return "may-have-executed"
	case NothingSent:
		return "nothing-sent"
	case Answered:
		return "answered"
	case Receipted:
		return "receipted"
	case Voided:
		return "voided"
	}
	return "invalid"
}
