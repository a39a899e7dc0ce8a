package operation

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/idemproxy/idemproxy/idem"
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

// plainNumber is a JSON number as people write it, without an exponent: the text that a
// client sends which has the same number in a header, a query or a string. It is exact, as
// canonicalNumber is, and is that where it would be longer than a key.
func plainNumber(number []byte) string {
	canonical := string(canonicalNumber(number))
	mantissa, exponent, _ := strings.Cut(canonical, "e")
	exp, ok := exponentOf([]byte(exponent))
	digits := strings.TrimPrefix(mantissa, "-")
	sign := mantissa[:len(mantissa)-len(digits)]
	point := int64(len(digits)) + exp // where it stands among the digits
	switch {
	case !ok || point > idem.MaxKeyLen || point < -idem.MaxKeyLen || strings.Trim(digits, "0123456789") != "":
		return canonical
	case exp >= 0:
		digits += strings.Repeat("0", int(exp))
	case point > 0:
		digits = digits[:point] + "." + digits[point:]
	default:
		digits = "0." + strings.Repeat("0", int(-point)) + digits
	}
	if plain := sign + digits; len(plain) <= idem.MaxKeyLen {
		return plain
	}
	return canonical
}
