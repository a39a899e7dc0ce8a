package message

import (
	"errors"
	"math"
	"strconv"
)

var errMaxForwards = errors.New("Max-Forwards is not one number")

// LastHop takes a hop off Max-Forwards (RFC 9110 section 7.6.2), of a TRACE or OPTIONS
// that has it. Where none is left the request goes no further.
func (h *Head) LastHop() (last bool, err error) {
	if m := string(h.Method()); m != "TRACE" && m != "OPTIONS" {
		return false, nil
	}
	found := false
	for i := range h.fields {
		f := &h.fields[i]
		if !EqualFold(f.Name, "Max-Forwards") {
			continue
		}
		n, ok := decimal(f.Value)
		if !ok && isDigits(f.Value) {
			n, ok = math.MaxInt, true // as large as we can count
		}
		if !ok || found {
			return false, errMaxForwards
		}
		found, last = true, n == 0
		f.Value = strconv.AppendInt(nil, int64(n)-1, 10)
	}
	return last, nil
}

func isDigits(b []byte) bool {
	for _, c := range b {
		if !isDigit(c) {
			return false
		}
	}
	return len(b) > 0
}

// AppendEcho appends what the final recipient of a TRACE answers (RFC 9110 section
// 9.3.8): the request, without the fields that a script is not to see, which are
// secrets and those that secret names.
func (h *Head) AppendEcho(b []byte, secret []string) []byte {
	b = append(append(append(b, h.Method()...), ' '), h.Target()...)
	b = append(append(append(b, ' '), h.header.Protocol()...), "\r\n"...)
	for i := range h.fields {
		f := &h.fields[i]
		if isAny(f.Name, secret) || isAny(f.Name, []string{"Authorization", "Cookie", "Proxy-Authorization", "Max-Forwards"}) {
			continue
		}
		b = append(append(append(append(b, f.Name...), ": "...), f.Value...), "\r\n"...)
	}
	return append(b, "\r\n"...)
}
