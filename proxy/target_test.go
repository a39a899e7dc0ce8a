package proxy

import "testing"

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
		if i, err := RouteOf(all, &Rules{}, "POST", host, "/"); err == nil && i >= 0 {
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
