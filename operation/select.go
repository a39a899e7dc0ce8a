package operation

import (
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// selection says which parts of a JSON text are compared: all, all but some, or some
// only. In a pointer, * stands for every element of an array; in an object it is a name.
type selection struct{ except, only []pointer }

// canonical is a JSON text in the one spelling of what is selected of it: members in the
// order of RFC 8785, strings as there, and numbers as canonicalNumber has them. Of what is
// selected by only, each value stands under its own pointer. It is an error if the text
// is not JSON: see ErrJSON.
func (s *selection) canonical(body []byte) ([]byte, error) {
	d := decoderOf(body)
	var out buffer
	e := jsontext.NewEncoder(&out, jsontext.AllowDuplicateNames(true)) // there are none, see ErrJSON
	var err error
	if len(s.only) > 0 {
		err = onlyOf(d, e, s.only)
	} else {
		err = exceptOf(d, e, s.except)
	}
	if err == nil {
		err = atEnd(d)
	}
	if err != nil {
		return nil, notJSON(err)
	}
	text := jsontext.Value(out)
	if err := text.Canonicalize(jsontext.CanonicalizeRawInts(false), jsontext.CanonicalizeRawFloats(false)); err != nil {
		return nil, notJSON(err)
	}
	return text, nil
}

// buffer is an io.Writer into memory.
type buffer []byte

// Write implements io.Writer.
func (b *buffer) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}

// exceptOf copies the next value, without what the pointers lead to from there.
func exceptOf(d *jsontext.Decoder, e *jsontext.Encoder, except []pointer) error {
	if len(except) == 0 || slices.ContainsFunc(except, isDone) || !isNested(d) {
		return copyOf(d, e)
	}
	isArray := d.PeekKind() == '['
	if err := copyToken(d, e); err != nil {
		return err
	}
	for i := 0; d.PeekKind() != ']' && d.PeekKind() != '}'; i++ {
		name, err := nextName(d, isArray, i)
		if err != nil {
			return err
		}
		below := below(except, name, isArray)
		if slices.ContainsFunc(below, isDone) {
			if err := d.SkipValue(); err != nil {
				return err //nolint:wrapcheck // see notJSON
			}
			continue
		}
		if !isArray {
			if err := e.WriteToken(jsontext.String(name)); err != nil {
				return err //nolint:wrapcheck // see notJSON
			}
		}
		if err := exceptOf(d, e, below); err != nil {
			return err
		}
	}
	return copyToken(d, e)
}

// onlyOf writes an object of what the pointers lead to.
func onlyOf(d *jsontext.Decoder, e *jsontext.Encoder, only []pointer) error {
	if err := e.WriteToken(jsontext.BeginObject); err != nil {
		return err //nolint:wrapcheck // see notJSON
	}
	if err := pick(d, e, only, ""); err != nil {
		return err
	}
	return e.WriteToken(jsontext.EndObject) //nolint:wrapcheck // see notJSON
}

// pick writes what the pointers lead to from the next value, which is at a place.
func pick(d *jsontext.Decoder, e *jsontext.Encoder, only []pointer, at jsontext.Pointer) error {
	switch {
	case slices.ContainsFunc(only, isDone):
		if err := e.WriteToken(jsontext.String(string(at))); err != nil {
			return err //nolint:wrapcheck // see notJSON
		}
		return copyOf(d, e)
	case len(only) == 0 || !isNested(d):
		return d.SkipValue() //nolint:wrapcheck // see notJSON
	}
	isArray := d.PeekKind() == '['
	if _, err := d.ReadToken(); err != nil {
		return err //nolint:wrapcheck // see notJSON
	}
	for i := 0; d.PeekKind() != ']' && d.PeekKind() != '}'; i++ {
		name, err := nextName(d, isArray, i)
		if err != nil {
			return err
		}
		if err := pick(d, e, below(only, name, isArray), at.AppendToken(name)); err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err //nolint:wrapcheck // see notJSON
}

func isDone(p pointer) bool { return len(p) == 0 }

func isNested(d *jsontext.Decoder) bool { return d.PeekKind() == '{' || d.PeekKind() == '[' }

// nextName is the name of the next member, or the index of the next element.
func nextName(d *jsontext.Decoder, isArray bool, i int) (string, error) {
	if isArray {
		return strconv.Itoa(i), nil
	}
	name, err := d.ReadToken()
	if err != nil {
		return "", err //nolint:wrapcheck // see notJSON
	}
	return name.String(), nil
}

// below are the pointers that go through a member or an element, from there.
func below(all []pointer, name string, isArray bool) (rest []pointer) {
	for _, p := range all {
		if p[0] == name || isArray && p[0] == "*" {
			rest = append(rest, p[1:])
		}
	}
	return rest
}

// copyOf copies the next value.
func copyOf(d *jsontext.Decoder, e *jsontext.Encoder) error {
	for depth := d.StackDepth(); ; {
		if err := copyToken(d, e); err != nil {
			return err
		}
		if d.StackDepth() == depth {
			return nil
		}
	}
}

// copyToken copies one token, a number in the spelling of its value.
func copyToken(d *jsontext.Decoder, e *jsontext.Encoder) error {
	if d.PeekKind() == '0' {
		number, err := d.ReadValue()
		if err != nil {
			return err //nolint:wrapcheck // see notJSON
		}
		return e.WriteValue(canonicalNumber(number)) //nolint:wrapcheck // see notJSON
	}
	token, err := d.ReadToken()
	if err != nil {
		return err //nolint:wrapcheck // see notJSON
	}
	return e.WriteToken(token) //nolint:wrapcheck // see notJSON
}
