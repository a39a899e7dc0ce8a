package admin_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/admin"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/message"
)

// completed is how a resolve with that header ends, and what is stored then.
func completed(t *testing.T, header string) (status int, text string, stored []string) {
	t.Helper()
	o := newOperator(t, storetest.NewMemory())
	_, a := o.begin(key(t, "k"), func(p *idem.Policy) { p.OnAmbiguous = idem.AmbiguousHold })
	a.Finish(idem.MayHaveExecuted, nil)
	status, text = o.ask(http.MethodPost, "/keys/resolve", `{"key":"k","action":"complete","status":200,"confirm":true,"header":`+header+`}`)
	out, _ := o.begin(key(t, "k"))
	if out.Response != nil {
		for _, f := range out.Response.Header {
			stored = append(stored, fmt.Sprintf("%s: %s", f.Name, f.Value))
		}
	}
	return status, text, stored
}

// A field can be there several times, as in any response: none is lost.
func TestFieldsOfOneName(t *testing.T) {
	t.Parallel()
	for header, want := range map[string][]string{
		`{"Link":["<a>","<b>"],"X":"1"}`:      {"Link: <a>", "Link: <b>", "X: 1"},
		`{"Link":"<a>","X":"1","Link":"<b>"}`: {"Link: <a>", "X: 1", "Link: <b>"},
		`{"Link":"<a>","link":"<b>"}`:         {"Link: <a>", "link: <b>"},
		`{"X":[]}`:                            nil,
		`null`:                                nil,
	} {
		if status, text, stored := completed(t, header); status != 200 || !slices.Equal(stored, want) {
			t.Errorf("%s: %d %s, stored are %q, want %q", header, status, text, stored, want)
		}
	}
	for _, header := range []string{`{"X":1}`, `{"X":["a",1]}`, `{"X":{}}`, `[]`, `"X: 1"`, `{"X":null}`} {
		if status, text, _ := completed(t, header); status != http.StatusBadRequest {
			t.Errorf("%s: %d %s", header, status, text)
		}
	}
	fields := admin.Fields{{"Link", "<a>"}, {"X", "1"}, {"Link", "<b>"}}
	text, err := json.Marshal(admin.Change{Header: fields})
	if err != nil || !strings.Contains(string(text), `{"Link":["\u003ca\u003e","\u003cb\u003e"],"X":"1"}`) {
		t.Errorf("%s, %v", text, err)
	}
}

// What a resolver's answer is cleaned of, an operator cannot store: it is of one connection, or
// for the proxy. The error says which it is.
func TestFieldsThatEndAtTheProxy(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("../message/hop.go")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`"([A-Z][A-Za-z-]+)"`).FindAllStringSubmatch(string(source), -1)
	if len(names) < 11 {
		t.Fatalf("%d names are there", len(names))
	}
	refused := []string{message.HeaderPolicy, message.HeaderOutcome, "content-length", "CONNECTION"}
	for _, name := range names {
		refused = append(refused, name[1])
	}
	for _, name := range refused {
		status, text, _ := completed(t, `{"`+name+`":"5"}`)
		if status != http.StatusBadRequest || !strings.Contains(text, `header \"`+name+`\": a stored response has none`) {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
	for _, name := range []string{"Content-Type", "Location", "Date", "Set-Cookie", "X-Connection"} {
		if status, text, _ := completed(t, `{"`+name+`":"5"}`); status != 200 {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
	if status, text, _ := completed(t, `{"a b":"5"}`); status != http.StatusBadRequest || !strings.Contains(text, "want letters") {
		t.Errorf("%d %s", status, text)
	}
}
