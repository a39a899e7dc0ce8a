package message

import (
	"bytes"
	"net/url"
	"strings"
	"testing"
)

// FuzzHost: of every authority that is let in, the canonical spelling is let in as well, is its
// own canonical spelling, and names the same host whatever its letters' case.
func FuzzHost(f *testing.F) {
	for _, seed := range []string{"a.example:80", "A.example.", "[::1]:443", "a:8443", "127.0.0.1", "a..", "a%41:80"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, host string) {
		if host == "" || !IsAuthority([]byte(host)) {
			return
		}
		once := CanonicalHost(nil, []byte(host))
		if twice := CanonicalHost(nil, once); !bytes.Equal(once, twice) {
			t.Errorf("%q became %q, and that %q", host, once, twice)
		}
		if upper := CanonicalHost(nil, bytes.ToUpper([]byte(host))); !bytes.Equal(once, upper) {
			t.Errorf("%q became %q, in capitals %q", host, once, upper)
		}
	})
}

// FuzzPath: a path that is not ambiguous is read alike by who decodes it before it is split into
// segments and by who does so afterwards, and is what cleaning makes of it.
func FuzzPath(f *testing.F) {
	for _, seed := range []string{"/", "/a/b", "/a//b", "/%2e%2E/a", "/a;b", "/%2F", "/a%20b/", "*", "/.a/..b", "/%61"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if Plain([]byte(path)) && strings.HasPrefix(path, "/") && Ambiguous([]byte(path)) != nil {
			t.Errorf("%q is plain, and: %v", path, Ambiguous([]byte(path)))
		}
		if !strings.HasPrefix(path, "/") || Ambiguous([]byte(path)) != nil {
			return
		}
		whole, err := url.PathUnescape(path)
		if err != nil {
			t.Fatalf("%q is no path: %v", path, err)
		}
		var parts []string
		for one := range strings.SplitSeq(path, "/") {
			part, err := url.PathUnescape(one)
			if err != nil {
				t.Fatalf("%q: %v", path, err)
			}
			parts = append(parts, part)
		}
		if after := strings.Join(parts, "/"); after != whole || strings.Count(whole, "/") != strings.Count(path, "/") {
			t.Errorf("%q is %q, and by segments %q", path, whole, after)
		}
		for i, part := range parts {
			if part == "." || part == ".." || part == "" && i > 0 && i < len(parts)-1 {
				t.Errorf("%q has the segment %q", path, part)
			}
		}
	})
}
