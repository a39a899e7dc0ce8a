package admin_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/idemproxy/idemproxy/admin"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
)

// What shows or changes keys is for this machine, or for who has the token; what
// a page in a browser can be made to send is neither.
func TestAccess(t *testing.T) {
	t.Parallel()
	const token = "0123456789abcdef"
	ask := func(token []byte, remote, host, authorization, path string) int {
		s := admin.New(admin.Config{
			Token: token, Metrics: http.NotFoundHandler(),
			Keys: &admin.Keys{
				Store: storetest.NewMemory(), Audit: func(string, string, idem.Key, error) {},
			},
		})
		r := httptest.NewRequestWithContext(context.Background(), http.MethodGet, path, nil)
		r.RemoteAddr, r.Host = remote, host
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		return w.Code
	}
	const local, elsewhere = "127.0.0.1:1234", "10.0.0.7:1234"
	for _, path := range []string{"/keys?key=k", "/debug/pprof/cmdline"} {
		for _, c := range []struct {
			name, token, remote, host, authorization string
			refused                                  int // 0: let in
		}{
			{"this machine", "", local, "127.0.0.1:8081", "", 0},
			{"by name", "", local, "localhost:8081", "", 0},
			{"IPv6", "", "[::1]:1234", "[::1]:8081", "", 0},
			{"another machine", "", elsewhere, "10.0.0.1:8081", "", 403},
			{"another machine that says loopback", "", elsewhere, "127.0.0.1:8081", "", 403},
			{"a page under a stranger's name", "", local, "evil.example:8081", "", 421},
			{"a name that starts like an address", "", local, "127.0.0.1.evil.example", "", 421},
			{"token", token, elsewhere, "idemproxy:8081", "Bearer " + token, 0},
			{"scheme in small letters", token, elsewhere, "idemproxy:8081", "bearer " + token, 0},
			{"no token", token, local, "127.0.0.1:8081", "", 401},
			{"wrong token", token, local, "127.0.0.1:8081", "Bearer " + token + "0", 401},
			{"empty token", token, local, "127.0.0.1:8081", "Bearer ", 401},
			{"token, other scheme", token, local, "127.0.0.1:8081", "Basic " + token, 401},
		} {
			got := ask([]byte(c.token), c.remote, c.host, c.authorization, path)
			letIn := got != 401 && got != 403 && got != 421
			if letIn != (c.refused == 0) || !letIn && got != c.refused {
				t.Errorf("%s, %s: %d, want %d", path, c.name, got, c.refused)
			}
		}
	}
	if got := ask([]byte(token), elsewhere, "idemproxy", "", "/healthz"); got != 200 {
		t.Errorf("health is for everybody: %d", got)
	}
}
