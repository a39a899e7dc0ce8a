package admin_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/idemproxy/idemproxy/admin"
)

// sampled asks /history.
func sampled(t *testing.T, s *admin.Server, query string, status int) (out admin.Samples) {
	t.Helper()
	req := httptest.NewRequest(http.MethodGet, "/history"+query, nil)
	req.RemoteAddr, req.Host = "127.0.0.1:1", "localhost"
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, req)
	if w.Code != status {
		t.Fatalf("%q: %d %s, want %d", query, w.Code, w.Body, status)
	}
	if status == http.StatusOK {
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// Fifteen minutes are kept, the oldest first, and no more however long the process runs.
func TestHistory(t *testing.T) {
	t.Parallel()
	h := &admin.History{}
	s := admin.New(admin.Config{Metrics: http.NotFoundHandler(), History: h})
	if got := sampled(t, s, "", 200); got.Samples == nil || len(got.Samples) != 0 || got.EveryMS != 5000 || got.OfMS != 900_000 || got.Started == 0 {
		t.Errorf("at first: %+v", got)
	}
	const kept = 180
	for i := range kept + 7 {
		h.Keep(admin.Sample{At: int64(i + 1)})
	}
	got := sampled(t, s, "", 200).Samples
	if len(got) != kept {
		t.Fatalf("%d are kept, want %d", len(got), kept)
	}
	for i := range got {
		if got[i].At != int64(i+8) {
			t.Fatalf("the %dth is of %d, want %d", i, got[i].At, i+8)
		}
	}
	if got := sampled(t, s, "?after=185", 200).Samples; len(got) != 2 || got[0].At != 186 {
		t.Errorf("after one: %+v", got)
	}
	sampled(t, s, "?after=x", 400)
}
