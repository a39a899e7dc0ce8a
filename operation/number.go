package operation

import (
	"bytes"
	"strconv"
)

// canonicalNumber is a JSON number in the one spelling that all numbers of its value
// have: sign, digits that neither begin nor end with a zero, and exponent. It is exact:
// no two values have one spelling, whatever their size. Minus zero is not zero, since
// there are programs that tell them apart.
func canonicalNumber(number []byte) (b []byte) {
	mantissa, exponent := number, []byte(nil)
	if i := bytes.IndexAny(number, "eE"); i >= 0 {
		mantissa, exponent = number[:i], number[i+1:]
	}
	exp, ok := exponentOf(exponent)
	if !ok { // it has a value that nothing else has: its own spelling
		return bytes.Clone(number)
	}
	if mantissa[0] == '-' {
		b, mantissa = append(b, '-'), mantissa[1:]
	}
	whole, fraction, _ := bytes.Cut(mantissa, []byte{'.'})
	exp -= int64(len(fraction))
	digits := bytes.TrimLeft(append(bytes.Clone(whole), fraction...), "0")
	if len(digits) == 0 {
		return append(b, '0')
	}
	short := bytes.TrimRight(digits, "0")
	exp += int64(len(digits) - len(short))
	b = append(b, short...)
	if exp == 0 {
		return b
	}
	return strconv.AppendInt(append(b, 'e'), exp, 10)
}

// maxExponent is how many digits an exponent may have to be reckoned with; no program
// takes larger ones for numbers.
const maxExponent = 17

func exponentOf(text []byte) (n int64, ok bool) {
	if len(text) == 0 {
		return 0, true
	}
	sign := int64(1)
	switch text[0] {
	case '-':
		sign, text = -1, text[1:]
	case '+':
		text = text[1:]
	}
	if text = bytes.TrimLeft(text, "0"); len(text) > maxExponent {
		return 0, false
	}
	for _, c := range text {
		n = 10*n + int64(c-'0')
	}
	return sign * n, true
}
