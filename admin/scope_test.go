package admin_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/admin"
	"github.com/idemproxy/idemproxy/caller"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
)

// oddScopes are scopes of all kinds that records can have, and some that none should.
func oddScopes() []string {
	return []string{
		"", "host=a.example:8080", "header:x-account-id=acct_7", "header:x-account=Acct 7 = \"x\" '\\", "claim:sub@https://a=me",
		"claim:a%3Db%40c%25@https://i=me", "header:a=x\x1fheader:a-b=y", "claim:a=1\x1fclaim:a!=1", "header:x=1\x1fhost=a",
		"\x1ederived\x1f", "\x1ederived\x1fheader:x-a=q", "\x1epayload\x1fheader:a=x\x1fheader:a-b=y",
		"\x1eredirect\x1f0123456789abcdef0123456789abcdef", "\x1eredirect\x1f0123456789abcdef0123456789abcdefheader:x-a=q",
		"acct_7", "b\x1fa", "a\x1fb", "acct\x1fheader:X-A=1", "header:X-A=1", "header:X-A=1\x1fheader:B=1", "Host=1", // of releases before
		"\x1f", "\x1fa", "a\x1f", "a\x1f\x1fb", "a\tb", "a\tb\x1fc", "\x1ea\tb", "ünï", "ünï\"", "\xff", "'", "$'\\''",
	}
}

// A scope as it is shown leads back to it, whatever it is.
func TestShownScopesLeadBack(t *testing.T) {
	t.Parallel()
	o := newOperator(t, storetest.NewMemory())
	for _, scope := range oddScopes() {
		if got := admin.ScopeOf(admin.ScopeText(scope)); got != scope {
			t.Errorf("%q is shown as %q, which is %q", scope, admin.ScopeText(scope), got)
		}
		if strings.ToValidUTF8(scope, "") != scope {
			continue // JSON has no such text
		}
		_, a := o.begin(key(t, "k").InScope(scope), func(p *idem.Policy) { p.OnAmbiguous = idem.AmbiguousHold })
		a.Finish(idem.MayHaveExecuted, nil)
	}
	var l admin.Listing
	_, text := o.ask(http.MethodGet, "/keys/list?limit=1000", "")
	if err := json.Unmarshal([]byte(text), &l); err != nil || len(l.Keys) < 20 {
		t.Fatal(text, err)
	}
	for i := range l.Keys {
		asked, err := json.Marshal(admin.Change{Key: "k", Scope: l.Keys[i].Scope, Action: "retry", Confirm: true})
		if err != nil {
			t.Fatal(err)
		}
		if status, text := o.ask(http.MethodPost, "/keys/resolve", string(asked)); status != 200 {
			t.Errorf("%s: %d %s", asked, status, text)
		}
	}
}

// A person writes the sources in any order, and names of header fields in any case.
func TestScopesAsPeopleWriteThem(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"header:X-Account-Id=Acct_7":       "header:x-account-id=Acct_7",
		"host=a\theader:X=1":               "header:x=1\x1fhost=a",
		"header:A-B=y\theader:A=x":         "header:a=x\x1fheader:a-b=y",
		"claim:b@i=1\tclaim:a%3D=2\thost=": "claim:a%3D=2\x1fclaim:b@i=1\x1fhost=",
		"b\ta":                             "b\x1fa",
		"\x1ederived\theader:x-a=q":        "\x1ederived\x1fheader:x-a=q",
	} {
		if got := admin.ScopeOf(text); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
	o := newOperator(t, storetest.NewMemory())
	_, a := o.begin(key(t, "k").InScope("header:x-account=A"))
	a.Finish(idem.Answered, &idem.Response{Status: 200})
	if status, text := o.ask(http.MethodGet, "/keys/list?scope=header:X-Account%3dA", ""); !strings.Contains(text, `"key":"k"`) {
		t.Errorf("a list: %d %s", status, text)
	}
	if status, text := o.ask(http.MethodPost, "/keys/purge", `{"scope":"header:X-Account=A","confirm":true}`); !strings.Contains(text, `"keys":1`) {
		t.Errorf("a purge: %d %s", status, text)
	}
}

// The order of the sources is the one in which records have them.
func TestScopesAreInTheOrderOfRecords(t *testing.T) {
	t.Parallel()
	sources, err := caller.ParseScope([]string{"header:a-b", "header:a", "claim:a=b"})
	if err != nil {
		t.Fatal(err)
	}
	var recorded, written []string
	for _, s := range sources {
		recorded = append(recorded, caller.Encoded(s.String())+"=1")
	}
	written = slices.Clone(recorded)
	slices.Reverse(written)
	if got, want := admin.ScopeOf(strings.Join(written, "\t")), strings.Join(recorded, "\x1f"); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
