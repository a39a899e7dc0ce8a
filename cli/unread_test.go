package cli_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Who lists keys, or acts on all of them, gets those that can be read, hears which cannot, and has
// an exit code that says so.
func TestRecordsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	acts := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/keys/list" {
			_, _ = io.WriteString(w, `{"keys":[{"key":"one","state":"unknown"}],"more":false,"unread":"the odd one"}`)
			return
		}
		acts <- r.URL.Path
		_, _ = io.WriteString(w, `{}`)
	}))
	defer server.Close()
	for _, args := range [][]string{
		{"list"},
		{"list", "--json"},
		{"resolve", "--all", "--retry", "--dry-run"},
		{"resolve", "--all", "--retry", "--yes"},
		{"resolve", "--all", "--older-than", "0s", "--retry", "--yes", "--json"},
	} {
		code, out := command(t, append(args, "--admin", server.URL)...)
		if code != 1 || !strings.Contains(out, "the odd one") || !strings.Contains(out, "one") {
			t.Errorf("%v: exit code %d, %s", args, code, out)
		}
	}
	if n := len(acts); n != 2 {
		t.Errorf("%d keys were resolved, want 2", n)
	}
}
