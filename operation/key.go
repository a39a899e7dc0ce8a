package operation

import (
	"bytes"
	"errors"
	"fmt"
	"unsafe"

	"github.com/dunglas/httpsfv"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/message"
)

// The two spellings of the key's header: the IETF draft's
// (draft-ietf-httpapi-idempotency-key-header), and what it was called before it had
// a draft.
const (
	HeaderKey    = message.HeaderKey
	HeaderKeyOld = "X-Idempotency-Key"
)

// Errors of FindKey, besides those of idem.ParseKey.
var (
	ErrKeysDiffer = errors.New("the request has several idempotency keys, and they differ")
	ErrKeyQuoting = errors.New("the key starts with a quote but is not an RFC 9651 string")
)

// FindKey is the key in the fields of those names, by whichever of them, quoted or
// bare, and how often it came; two different keys are an error. Of a list of one
// and the same key the backend gets that key, so that one that reads keys itself
// sees the same one each time. The key's bytes belong to the request.
func FindKey(head *message.Head, names []string) (key idem.Key, found bool, err error) {
	fields := head.All()
	for i := range fields {
		f := &fields[i]
		if !isNamed(f.Name, names) {
			continue
		}
		text, err := keyText(f.Value)
		if err != nil {
			return key, false, err
		}
		one, err := idem.ParseKey(text)
		if err != nil {
			return key, false, err
		}
		if found && one != key {
			return key, false, ErrKeysDiffer
		}
		key, found = one, true
		f.IsKey(oneKey(f.Value, text))
	}
	return key, found, nil
}

func isNamed(name []byte, names []string) bool {
	for _, n := range names {
		if message.EqualFold(name, n) {
			return true
		}
	}
	return false
}

// oneKey is a field's value as the backend gets it.
func oneKey(value []byte, key string) []byte {
	if bytes.IndexByte(value, ',') < 0 {
		return value
	}
	first, _ := message.CutUnquoted(value, ',')
	first = bytes.TrimSpace(first)
	if text, err := unquote(first); err != nil || text != key {
		return value
	}
	return first
}

// keyText is the key in a field's value. An intermediary may have joined two lines
// of the field into one, which means the same (RFC 9110 section 5.3): a list of
// one and the same key is that key. A list of several quoted ones is an error, as
// two lines are. A bare value with commas in it that is no such list is one key,
// since a bare key may have commas, and nobody can tell.
func keyText(value []byte) (string, error) {
	if bytes.IndexByte(value, ',') < 0 {
		return unquote(value)
	}
	quoted := value[0] == '"'
	var first string
	for n, rest := 0, value; len(rest) > 0; n++ {
		var one []byte
		one, rest = message.CutUnquoted(rest, ',')
		text, err := unquote(bytes.TrimSpace(one))
		switch {
		case err != nil && quoted:
			return "", err
		case err != nil, n > 0 && text != first && !quoted, text == "":
			return unquote(value)
		case n > 0 && text != first:
			return "", ErrKeysDiffer
		}
		first = text
	}
	if value[len(value)-1] == ',' { // an empty one is at its end
		return unquote(value)
	}
	return first, nil
}

// unquote reads an RFC 9651 string (parameters are ignored, as section 3.1.2
// has it), or takes a value that does not start with a quote as it is.
func unquote(value []byte) (string, error) {
	if len(value) == 0 || value[0] != '"' {
		// By reference, since most requests need no copy; who keeps the key
		// clones it.
		return unsafe.String(unsafe.SliceData(value), len(value)), nil //nolint:gosec // the header outlives the handler
	}
	item, err := httpsfv.UnmarshalItem([]string{string(value)})
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrKeyQuoting, err)
	}
	text, ok := item.Value.(string)
	if !ok {
		return "", ErrKeyQuoting
	}
	return text, nil
}

// KeyField is the key as a field can have it, by which FindKey finds it again: bare,
// but quoted where a bare one would be read as another key. Recipients trim spaces, and
// read what starts with a quote, or is a list, as something else.
func KeyField(key idem.Key) string {
	bare := key.Value()
	if text, err := keyText(bytes.TrimSpace([]byte(bare))); bare == "" || err == nil && text == bare {
		return bare
	}
	quoted, err := httpsfv.Marshal(httpsfv.NewItem(bare))
	if err != nil { // of none that ParseKey takes
		return bare
	}
	return quoted
}
