package rstore

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// alike compares what the two servers said. Times may differ by off milliseconds, and are
// known by where they are: in a record, in a reply that has some, or by their size.
func alike(real, fake any, off int64) bool {
	switch r := real.(type) {
	case string:
		f, ok := fake.(string)
		return ok && textsAlike(r, f, off)
	case int64:
		f, ok := fake.(int64)
		return ok && (r == f || r > 1e12 && near(r, f, off))
	case fault:
		f, ok := fake.(fault)
		return ok && sameFault(string(r), string(f))
	case []any:
		f, ok := fake.([]any)
		if !ok || len(r) != len(f) {
			return false
		}
		if timeR, timeF := shown(r), shown(f); timeR > 0 && timeF > 0 {
			return near(timeR, timeF, off) && alike(r[2:], f[2:], off)
		}
		for i := range r {
			if i == 2 && hasLife(r) && hasLife(f) {
				if !near(r[i].(int64), f[i].(int64), off) { //nolint:forcetypeassert // hasLife
					return false
				}
			} else if !alike(r[i], f[i], off) {
				return false
			}
		}
		return true
	}
	return real == fake
}

// hasLife says whether the third of a reply of acquire.lua is for how long something lasts.
func hasLife(reply []any) bool {
	if len(reply) < 3 {
		return false
	}
	_, isTime := reply[2].(int64)
	return isTime && (reply[0] == int64(2) || reply[0] == int64(3))
}

// shown is the time that a reply of inspect.lua begins with, in milliseconds.
func shown(reply []any) int64 {
	if len(reply) != 4 {
		return 0
	}
	seconds, ok1 := reply[0].(int64)
	micros, ok2 := reply[1].(int64)
	if !ok1 || !ok2 || seconds < 1e9 {
		return 0
	}
	return seconds*1000 + micros/1000
}

// sorted is a reply whose lists are in no order, in one: pairs of a hash, or names.
func sorted(reply any, each int) any {
	all, ok := reply.([]any)
	if !ok {
		return reply
	}
	if len(all) == 2 && all[0] == "0" {
		return []any{all[0], sorted(all[1], 1)}
	}
	parts := slices.Collect(slices.Chunk(all, each))
	slices.SortFunc(parts, func(a, b []any) int { return strings.Compare(fmt.Sprint(a[0]), fmt.Sprint(b[0])) })
	return slices.Concat(parts...)
}

func near(a, b, off int64) bool { return max(a-b, b-a) <= off }

// sameFault compares all but what the server adds about where in a script it was.
func sameFault(a, b string) bool {
	if strings.Contains(a, "user_script:") && strings.Contains(b, "user_script:") {
		a, _, _ = strings.Cut(a, " ")
		b, _, _ = strings.Cut(b, " ")
	}
	a, _, _ = strings.Cut(a, " script: ")
	b, _, _ = strings.Cut(b, " script: ")
	return a == b
}

// textsAlike compares strings, which may be records.
func textsAlike(a, b string, off int64) bool {
	if len(a) != len(b) {
		return false
	}
	timesA, restA := timesIn(a)
	timesB, restB := timesIn(b)
	for i := range min(len(timesA), len(timesB)) {
		if !near(timesA[i], timesB[i], off) {
			return false
		}
	}
	return restA == restB && len(timesA) == len(timesB)
}

// timesIn are a record's, in milliseconds, and what else it has.
func timesIn(record string) (times []int64, rest string) {
	switch {
	case len(record) >= 96 && record[0] == 2:
		for at := 60; at < 84; at += 6 {
			times = append(times, six(record[at:]))
		}
		return times, record[:60] + record[84:]
	case len(record) >= 120 && record[0] == 1:
		for _, at := range []int{8, 96, 104, 112} {
			times = append(times, int64(binary.BigEndian.Uint64([]byte(record[at:]))))
		}
		return times, record[:8] + record[16:96] + record[120:]
	case len(record) >= 6 && len(record) < 60 && six(record) > 1e12 && six(record) < 1e13: // the registry's
		return []int64{six(record)}, record[6:]
	}
	return nil, record
}

// six are six bytes that are a number.
func six(text string) int64 {
	var b [8]byte
	copy(b[2:], text[:6])
	return int64(binary.BigEndian.Uint64(b[:]))
}
