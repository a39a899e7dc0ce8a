package app

import "slices"

// Times are how often something took up to so many seconds: a histogram.
type Times struct {
	Count uint64 `json:"count"`
	// UpTo counts those up to a bound, in seconds; what took longer is in Count alone.
	UpTo []UpTo `json:"up_to"`
}

// UpTo is one bound of Times.
type UpTo struct {
	Seconds float64 `json:"seconds"`
	Count   uint64  `json:"count"`
}

// plus adds times of the same bounds.
func (t Times) plus(more Times) Times {
	out := Times{Count: t.Count + more.Count, UpTo: slices.Clone(more.UpTo)}
	for i := range min(len(t.UpTo), len(out.UpTo)) {
		out.UpTo[i].Count += t.UpTo[i].Count
	}
	return out
}

// Since are the times that have come since before was taken.
func (t Times) Since(before Times) Times {
	out := Times{Count: t.Count - min(t.Count, before.Count)}
	for i, b := range t.UpTo {
		if i < len(before.UpTo) {
			b.Count -= min(b.Count, before.UpTo[i].Count)
		}
		out.UpTo = append(out.UpTo, b)
	}
	return out
}

// Quantile is about how long the given share of them took at most, as Prometheus has it;
// false if there were none. Of what took longer than all bounds, it is the last bound.
func (t Times) Quantile(q float64) (seconds float64, ok bool) {
	if t.Count == 0 || len(t.UpTo) == 0 {
		return 0, false
	}
	rank := q * float64(t.Count)
	below := UpTo{}
	for _, b := range t.UpTo {
		if float64(b.Count) >= rank {
			in := float64(b.Count - below.Count)
			if in == 0 {
				return b.Seconds, true
			}
			return below.Seconds + (b.Seconds-below.Seconds)*(rank-float64(below.Count))/in, true
		}
		below = b
	}
	return below.Seconds, true
}
