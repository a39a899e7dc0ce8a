package message

import "testing"

func TestCanonicalHost(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"a.example": "a.example", "A.Example": "a.example", "a.example.": "a.example", "a.example.:443": "a.example",
		"a.example:80": "a.example", "a.example:443": "a.example", "a.example:": "a.example", "a.example:8443": "a.example:8443",
		"a.example:080": "a.example:080", "[::1]": "[::1]", "[::1]:80": "[::1]", "[::1]:8080": "[::1]:8080", "[FE80::A]": "[fe80::a]",
		"::1": "::1", "127.0.0.1:80": "127.0.0.1", "": "", ".": ".", ":80": "", "host:80:443": "host:80:443",
	} {
		if got := string(CanonicalHost(nil, []byte(host))); got != want {
			t.Errorf("%q became %q, want %q", host, got, want)
		}
		if got := string(CanonicalHost(nil, []byte(want))); got != want {
			t.Errorf("%q, made canonical again, became %q", want, got)
		}
	}
}
