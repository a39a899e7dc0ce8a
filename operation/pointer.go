package operation

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// ErrJSON is a body that is no JSON text that everybody reads alike: UTF-8, with no
// member twice in one object, nested up to 10,000 deep, and nothing behind it (RFC 7493).
var ErrJSON = errors.New("the body is not well-formed JSON, in UTF-8 and with each member once")

// pointer is an RFC 6901 pointer, taken apart.
type pointer []string

// parsePointer reads the string form (/a/b), or that of a URI's fragment (#/a%2Cb),
// which has a spelling for every character.
func parsePointer(text string) (pointer, error) {
	if fragment, is := strings.CutPrefix(text, "#"); is {
		decoded, err := url.PathUnescape(fragment)
		if err != nil {
			return nil, fmt.Errorf("%q is no JSON pointer (RFC 6901): what follows # is percent-encoded", text)
		}
		text = decoded
	}
	p := jsontext.Pointer(text)
	if !p.IsValid() {
		return nil, fmt.Errorf("%q is no JSON pointer (RFC 6901): want one such as /order/id, with ~1 for / and ~0 for ~ in names",
			text)
	}
	return slices.Collect(p.Tokens()), nil
}

// String is the pointer as a string; what has a comma or a plus sign in it, which lists
// of settings are split at, as a fragment.
func (p pointer) String() string {
	var text jsontext.Pointer
	for _, token := range p {
		text = text.AppendToken(token)
	}
	if !strings.ContainsAny(string(text), ",+%#") && strings.TrimSpace(string(text)) == string(text) {
		return string(text)
	}
	var b strings.Builder
	b.WriteByte('#')
	for i := range len(text) {
		if c := text[i]; c == '/' || c == '~' || isWordByte(c) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func isWordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_'
}

// byteOrderMark may begin a JSON text, and means nothing (RFC 8259 section 8.1).
//
//nolint:gochecknoglobals // a constant, of a kind that Go has no word for
var byteOrderMark = []byte("\xef\xbb\xbf")

func decoderOf(body []byte) *jsontext.Decoder {
	return jsontext.NewDecoder(bytes.NewBuffer(bytes.TrimPrefix(body, byteOrderMark)))
}

// at is the value that a pointer leads to, nil for none. All of the body is read, so
// that what is malformed behind the value is an error, too. What is passed over is not
// kept.
func (p pointer) at(body []byte) (jsontext.Value, error) {
	d := decoderOf(body)
	value, err := p.descend(d)
	if err == nil {
		err = readToEnd(d)
	}
	if err != nil {
		return nil, notJSON(err)
	}
	return value, nil
}

// notJSON says where a body stops being JSON, and nothing of what it has.
func notJSON(err error) error {
	var syntax *jsontext.SyntacticError
	if errors.As(err, &syntax) {
		return fmt.Errorf("%w (at byte %d)", ErrJSON, syntax.ByteOffset)
	}
	return ErrJSON
}

func (p pointer) descend(d *jsontext.Decoder) (jsontext.Value, error) {
	for _, token := range p {
		found := false
		var err error
		switch d.PeekKind() {
		case '{':
			found, err = enterObject(d, token)
		case '[':
			found, err = enterArray(d, token)
		default:
		}
		if err != nil || !found {
			return nil, err
		}
	}
	value, err := d.ReadValue()
	return value.Clone(), err
}

// enterObject reads up to the value of a member.
func enterObject(d *jsontext.Decoder, member string) (found bool, err error) {
	if _, err = d.ReadToken(); err != nil {
		return false, err //nolint:wrapcheck // see notJSON
	}
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		switch {
		case err != nil:
			return false, err //nolint:wrapcheck // see notJSON
		case name.String() == member:
			return true, nil
		}
		if err := d.SkipValue(); err != nil {
			return false, err //nolint:wrapcheck // see notJSON
		}
	}
	return false, nil
}

// membersOf are those members of an object whose names are wanted, nil for none, in one pass
// over the text. As with at, all of it is read.
func membersOf(body []byte, wanted map[string]bool) (all map[string]jsontext.Value, err error) {
	d := decoderOf(body)
	if d.PeekKind() == '{' {
		all, err = readMembers(d, wanted)
	}
	if err == nil {
		err = readToEnd(d)
	}
	if err != nil {
		return nil, notJSON(err)
	}
	return all, nil
}

// readMembers reads an object up to its end.
func readMembers(d *jsontext.Decoder, wanted map[string]bool) (map[string]jsontext.Value, error) {
	if _, err := d.ReadToken(); err != nil {
		return nil, err //nolint:wrapcheck // see notJSON
	}
	all := map[string]jsontext.Value{}
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			return nil, err //nolint:wrapcheck // see notJSON
		}
		if text := name.String(); wanted[text] {
			value, err := d.ReadValue()
			if err != nil {
				return nil, err //nolint:wrapcheck // see notJSON
			}
			all[text] = value.Clone()
		} else if err := d.SkipValue(); err != nil {
			return nil, err //nolint:wrapcheck // see notJSON
		}
	}
	return all, nil
}

// enterArray reads up to an element.
func enterArray(d *jsontext.Decoder, index string) (found bool, err error) {
	n, isIndex := indexOf(index)
	if !isIndex {
		return false, nil
	}
	if _, err = d.ReadToken(); err != nil {
		return false, err //nolint:wrapcheck // see notJSON
	}
	for i := 0; d.PeekKind() != ']'; i++ {
		if i == n {
			return true, nil
		}
		if err := d.SkipValue(); err != nil {
			return false, err //nolint:wrapcheck // see notJSON
		}
	}
	return false, nil
}

// indexOf reads an array's index: RFC 6901 section 4 has no leading zeros.
func indexOf(token string) (n int, ok bool) {
	n, err := strconv.Atoi(token)
	return n, err == nil && strconv.Itoa(n) == token && n >= 0
}

// readToEnd reads what is left of a text, which has nothing behind it.
func readToEnd(d *jsontext.Decoder) error {
	for d.StackDepth() > 0 {
		var err error
		if k := d.PeekKind(); k == '}' || k == ']' {
			_, err = d.ReadToken()
		} else {
			err = d.SkipValue()
		}
		if err != nil {
			return err //nolint:wrapcheck // see notJSON
		}
	}
	return atEnd(d)
}

func atEnd(d *jsontext.Decoder) error {
	if d.InputOffset() == 0 { // nothing has been read yet
		if err := d.SkipValue(); err != nil {
			return err //nolint:wrapcheck // see notJSON
		}
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return ErrJSON
	}
	return nil
}
