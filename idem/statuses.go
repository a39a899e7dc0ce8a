package idem

import (
	"fmt"
	"strconv"
	"strings"
)

// Disposition says what becomes of a complete response.
type Disposition uint8

// What can become of a response.
const (
	Keep      Disposition = iota // store it; retries get it
	TryAgain                     // the backend says it did nothing: release
	Ambiguous                    // a gateway made it up for a failed hop: see Ambiguity
)

// Statuses says what becomes of a response by its status. What is neither
// released nor ambiguous is kept. The nil Statuses is the default.
type Statuses struct {
	by [lastStatus - firstStatus + 1]Disposition
}

const firstStatus, lastStatus = 100, 999

// DefaultStatuses are, in ParseStatuses' notation: released are those that say
// "not processed" (401 RFC 9110 15.5.2, 407 15.5.8, 408 15.5.9, 421 15.5.20, 425
// RFC 8470 5.2, 429 RFC 6585 4, 503 RFC 9110 15.6.4, 511 RFC 6585 6): the same
// request, with a new token or a moment later, is to be executed; ambiguous are those that a gateway makes up for a
// failed hop (502, 504; RFC 9110 15.6.3, 15.6.5). All others are kept, a 500
// included.
func DefaultStatuses() (released, ambiguous []string) {
	return []string{"401", "407", "408", "421", "425", "429", "503", "511"}, []string{"502", "504"}
}

// Of is what becomes of a response with that status.
func (s *Statuses) Of(status int) Disposition {
	if s == nil {
		switch status {
		case 401, 407, 408, 421, 425, 429, 503, 511:
			return TryAgain
		case 502, 504:
			return Ambiguous
		}
		return Keep
	}
	if status < firstStatus || status > lastStatus {
		return Keep
	}
	return s.by[status-firstStatus]
}

// ParseStatuses reads lists of statuses ("503") and classes ("5xx"); a status
// beats its class. One that is in both lists is an error.
func ParseStatuses(released, ambiguous []string) (*Statuses, error) {
	s, what := &Statuses{}, [2]Disposition{TryAgain, Ambiguous}
	for _, classes := range []bool{true, false} {
		var set [lastStatus - firstStatus + 1]bool
		for i, list := range [][]string{released, ambiguous} {
			for _, text := range list {
				from, to, err := statusRange(text)
				if err != nil {
					return nil, err
				}
				if (from != to) != classes {
					continue
				}
				for status := from; status <= to; status++ {
					at := status - firstStatus
					if set[at] && s.by[at] != what[i] {
						return nil, fmt.Errorf("%s can be released or ambiguous, not both", text)
					}
					s.by[at], set[at] = what[i], true
				}
			}
		}
	}
	return s, nil
}

func statusRange(text string) (from, to int, err error) {
	if class, ok := strings.CutSuffix(strings.ToLower(text), "xx"); ok && len(class) == 1 && class[0] >= '2' && class[0] <= '5' {
		from = int(class[0]-'0') * 100
		return from, from + 99, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 200 || n > 599 {
		return 0, 0, fmt.Errorf("%q is neither a final status (200 to 599) nor a class of them (2xx to 5xx)", text)
	}
	return n, n, nil
}
