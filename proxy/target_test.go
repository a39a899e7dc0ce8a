package proxy

import (
	"testing"
)

func TestCanonicalHost(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"a.example": "a.example", "A.Example": "a.example", "a.example.": "a.example", "a.example.:443": "a.example",
		"a.example:80": "a.example", "a.example:443": "a.example", "a.example:": "a.example", "a.example:8443": "a.example:8443",
		"a.example:080": "a.example:080", "[::1]": "[::1]", "[::1]:80": "[::1]", "[::1]:8080": "[::1]:8080", "[FE80::A]": "[fe80::a]",
		"::1": "::1", "127.0.0.1:80": "127.0.0.1", "": "", ".": ".", ":80": "", "host:80:443": "host:80:443",
	} {
		if got := string(canonicalHost(nil, []byte(host))); got != want {
			t.Errorf("%q became %q, want %q", host, got, want)
		}
		if got := string(canonicalHost(nil, []byte(want))); got != want {
			t.Errorf("%q, made canonical again, became %q", want, got)
		}
	}
}

// Two spellings of a host take one route, so that none gets around its rules.
func TestRoutesByCanonicalHost(t *testing.T) {
	t.Parallel()
	all := []Route{{Name: "exact", Match: Match{Host: "A.example."}}, {Name: "below", Match: Match{Host: "*.b.example"}}}
	if err := SortRoutes(all); err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]string{
		"a.example": "exact", "A.EXAMPLE.": "exact", "a.example.:443": "exact", "a.example:8080": "exact", "x.b.example.": "below",
		"b.example": "", "a.example.evil": "",
	} {
		name := ""
		if i := RouteOf(all, "POST", host, "/"); i >= 0 {
			name = all[i].Name
		}
		if name != want {
			t.Errorf("%q takes route %q, want %q", host, name, want)
		}
	}
	if err := SortRoutes([]Route{{Match: Match{Host: "a.example"}}, {Match: Match{Host: "a.example."}}}); err == nil {
		t.Error("two routes for one host were taken")
	}
}
