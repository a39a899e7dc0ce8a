package operation_test

import (
	"bufio"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/message"
	"github.com/idemproxy/idemproxy/operation"
)

// What goes on as the key's field is read as that key, and as no other one's.
func TestKeyField(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, value := range []string{
		"k", "a b", " k", "k ", " ", `"`, `"k"`, `\`, `k"`, "a,b", "a,a", "a, a", ",", "k,", `"a","a"`, `"a" ,b`, `" k"`, `"k";x=1`, strings.Repeat(`"`, 255),
	} {
		key, err := idem.ParseKey(value)
		if err != nil {
			t.Fatal(err)
		}
		field := operation.KeyField(key)
		if other, twice := seen[strings.TrimSpace(field)]; twice {
			t.Errorf("%q and %q are both %q", value, other, field)
		}
		seen[strings.TrimSpace(field)] = value
		var header fasthttp.RequestHeader
		text := "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n" + operation.HeaderKey + ": " + field + "\r\n\r\n"
		if err := header.Read(bufio.NewReader(strings.NewReader(text))); err != nil {
			t.Fatal(err)
		}
		var head message.Head
		head.Read(&header)
		got, found, err := operation.FindKey(&head, []string{operation.HeaderKey})
		if err != nil || !found || got != key {
			t.Errorf("%q goes on as %q, which is read as %q, %v, %v", value, field, got.Value(), found, err)
		}
	}
	if field := operation.KeyField(idem.Key{}); field != "" {
		t.Errorf("no key goes on as %q", field)
	}
	plain, _ := idem.ParseKey("order-1")
	if field := operation.KeyField(plain); field != "order-1" {
		t.Errorf("a plain key goes on as %q", field)
	}
}
