package admin_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/admin"
	"github.com/idemproxy/idemproxy/idem"
)

// asked asks /requests.
func asked(t *testing.T, r *admin.Recent, query string, status int) (out admin.Requests) {
	t.Helper()
	s := admin.New(admin.Config{Metrics: http.NotFoundHandler(), Recent: r})
	req := httptest.NewRequest(http.MethodGet, "/requests?"+query, nil)
	req.RemoteAddr, req.Host = "127.0.0.1:1", "localhost"
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, req)
	if w.Code != status {
		t.Fatalf("%s: %d %s, want %d", query, w.Code, w.Body, status)
	}
	if status == http.StatusOK {
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func scopedKey(t *testing.T, value string) idem.Key {
	t.Helper()
	k, err := idem.ParseKey(value)
	if err != nil {
		t.Fatal(err)
	}
	return k.InScope("header:x-account-id=7")
}

// The last requests are found by each thing that a log line says of them, and nothing of
// a request's own bytes is kept.
func TestRequests(t *testing.T) {
	t.Parallel()
	r := admin.NewRecent(8)
	k := scopedKey(t, "order-1")
	path := []byte("/pay")
	r.Keep(&admin.Request{
		At: time.Now(), Outcome: "executed", Route: "pay", Status: 201, Method: []byte("POST"), Path: path, ID: []byte("id-1"),
		Keyed: true, Key: k, Attempt: 1, Client: netip.MustParseAddrPort("192.0.2.7:4711"), Duration: 3 * time.Millisecond, Ending: "stored",
	})
	copy(path, "/XXX") // the next request's
	r.Keep(&admin.Request{
		At: time.Now(), Outcome: "mismatch", Route: "pay", Status: 422, ID: []byte("id-2"), Keyed: true, Key: k, Differs: "request",
		Err: errors.New("why"), Notable: true,
	})
	r.Keep(&admin.Request{At: time.Now(), Outcome: "passed", Status: 200, ID: []byte("id-3")})
	for query, want := range map[string]string{
		"": "id-3 id-2 id-1", "limit=2": "id-3 id-2", "before=3": "id-2 id-1", "outcome=executed,passed": "id-3 id-1",
		"route=pay": "id-2 id-1", "route=default": "id-3", "status=422": "id-2", "status=2xx": "id-3 id-1", "request_id=id-2": "id-2",
		"key=" + k.String(): "id-2 id-1", "key=" + strings.ToUpper(k.String()[4:]): "id-2 id-1", "key=key:000000000000": "",
		"key=" + k.String() + "&outcome=mismatch": "id-2",
	} {
		var ids []string
		found := asked(t, r, query, 200)
		for _, e := range found.Requests {
			ids = append(ids, e.Request)
		}
		if got := strings.Join(ids, " "); got != want || found.More != (query == "limit=2") {
			t.Errorf("%q: %q, more %v; want %q", query, got, found.More, want)
		}
	}
	first := asked(t, r, "request_id=id-1", 200).Requests[0]
	if first.Path != "/pay" || first.Method != "POST" || first.Client != "192.0.2.7:4711" || first.Millis != 3 || first.Ending != "stored" ||
		first.Seq != 1 {
		t.Errorf("%+v", first)
	}
	if second := asked(t, r, "request_id=id-2", 200).Requests[0]; second.Error != "why" || second.Differs != "request" || second.Path != "" {
		t.Errorf("%+v", second)
	}
	for _, query := range []string{"limit=0", "limit=x", "status=6xx", "status=abc", "status=xx", "before=-1"} {
		asked(t, r, query, 400)
	}
}

// Memory is bounded, and what went as usual does not push out what did not.
func TestRequestsAreBounded(t *testing.T) {
	t.Parallel()
	r := admin.NewRecent(8)
	r.Keep(&admin.Request{Outcome: "backend-cut", Status: 502, Notable: true})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 100 {
				r.Keep(&admin.Request{Outcome: "executed", Path: []byte("/" + strings.Repeat("x", 9999)), Status: 200})
			}
		})
	}
	all.Wait()
	found := asked(t, r, "limit=1000", 200).Requests
	if len(found) != 9 || found[8].Outcome != "backend-cut" || len(found[0].Path) != 256 {
		t.Fatalf("%d are kept: %+v", len(found), found[len(found)-1])
	}
	for i := 1; i < len(found); i++ {
		if found[i].Seq >= found[i-1].Seq {
			t.Errorf("%d comes after %d", found[i].Seq, found[i-1].Seq)
		}
	}
}

// Keeping a request costs the hot path no allocation.
func TestKeepingAllocatesNothing(t *testing.T) { //nolint:paralleltest // it counts allocations
	r := admin.NewRecent(4)
	one := admin.Request{Outcome: "executed", Method: []byte("POST"), Path: []byte("/pay"), ID: []byte("id"), Keyed: true, Key: scopedKey(t, "order-1")}
	for range 8 {
		r.Keep(&one)
	}
	if n := testing.AllocsPerRun(100, func() {
		again := one
		r.Keep(&again)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
