package operation_test

import (
	"bufio"
	"errors"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/message"
	"github.com/idemproxy/idemproxy/operation"
)

// FuzzFindKey: the key that is found in a field is found again in what the backend gets, in
// what KeyField makes of it, under the field's older name, and if the line comes twice. Another
// line beside it is the same key, or an error, and never makes a third key of two.
func FuzzFindKey(f *testing.F) {
	for _, seed := range [][2]string{
		{"k", "k"},
		{`"k"`, "k"},
		{"a,b", "a,b"},
		{"a, a", "a"},
		{`"a", "a"`, `"a"`},
		{`"a","b"`, "b"},
		{`"k";x=1`, "k"},
		{"k,", "k"},
		{`"\"",`, `"\\"`},
		{` " k"`, "k "},
		{`",",","`, ","},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, one, two string) {
		key, found, err := findIn(line(operation.HeaderKey, one))
		if errors.Is(err, errRead) {
			return
		}
		again := func(what, header string) {
			t.Helper()
			if k, ok, e := findIn(header); k != key || ok != found || (e == nil) != (err == nil) {
				t.Errorf("%q is %q (%v, %v); %s: %q (%v, %v)", one, key.Value(), found, err, what, k.Value(), ok, e)
			}
		}
		again("under its older name", line(operation.HeaderKeyOld, one))
		again("twice", line(operation.HeaderKey, one)+line(operation.HeaderKey, one))
		if err != nil || !found {
			return
		}
		again("as KeyField writes it", line(operation.HeaderKey, operation.KeyField(key)))
		again("as the backend gets it", line(operation.HeaderKey, goesOn(one)))
		k, _, e := findIn(line(operation.HeaderKey, one) + line(operation.HeaderKey, two))
		if e == nil && k != key {
			t.Errorf("%q and %q are %q", one, two, k.Value())
		}
	})
}

// errRead: no server reads these lines as fields of one name.
var errRead = errors.New("not to be read")

func line(name, value string) string { return name + ": " + value + "\r\n" }

func findIn(lines string) (idem.Key, bool, error) {
	head, ok := headOf(lines)
	if !ok {
		return idem.Key{}, false, errRead
	}
	key, found, err := operation.FindKey(head, []string{operation.HeaderKey, operation.HeaderKeyOld})
	return key, found, err
}

// goesOn is the value that the backend gets of a field that has a key.
func goesOn(value string) string {
	head, _ := headOf(line(operation.HeaderKey, value))
	_, _, _ = operation.FindKey(head, []string{operation.HeaderKey})
	for _, f := range head.All() {
		if message.EqualFold(f.Name, operation.HeaderKey) {
			return string(f.Value)
		}
	}
	return ""
}

// headOf reads fields as a server does. It is false for what a server refuses.
func headOf(lines string) (*message.Head, bool) {
	header, head := new(fasthttp.RequestHeader), new(message.Head)
	header.DisableNormalizing()
	text := "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n" + lines + "\r\n"
	if header.Read(bufio.NewReader(strings.NewReader(text))) != nil || message.Sound(header) != nil {
		return nil, false
	}
	head.Read(header)
	return head, true
}
