package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// What made the proxy ask is in the report also where nothing broke.
func TestDoubtIsTold(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status int
		fields []string
		want   string
	}{
		"it does not know":  {503, []string{"Idempotency-Outcome: unknown"}, "the backend answered 503 with Idempotency-Outcome: unknown"},
		"it was voided":     {409, []string{"Idempotency-Outcome: voided"}, "the backend answered 409 with Idempotency-Outcome: voided"},
		"in other letters":  {409, []string{"Idempotency-Outcome: Voided"}, "the backend answered 409 with Idempotency-Outcome: voided"},
		"in capitals":       {503, []string{"IDEMPOTENCY-OUTCOME: UNKNOWN"}, "the backend answered 503 with Idempotency-Outcome: unknown"},
		"a gateway's words": {502, nil, "the backend answered 502"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			told := make(chan proxy.Report, 1)
			l := newLedger()
			r := newRig(t, func(conn backendtest.Conn, q *backendtest.Request) {
				conn.Answer(c.status, "", c.fields...)
			}, l.settling(t, 10*time.Second), func(c *proxy.Config) { c.Trace.Done = func(r *proxy.Report) { told <- *r } })
			r.post("k", "x")
			if got := <-told; got.Settlement != proxy.SettledVoided || got.Err == nil || got.Err.Error() != c.want {
				t.Errorf("settlement %v, error %v, want %s", got.Settlement, got.Err, c.want)
			}
		})
	}
}

// What says two things of an attempt is asked about, and told.
func TestContradictionsAreTold(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fields []string
		told   bool
	}{
		"two lines":         {[]string{"Idempotency-Outcome: executed", "idempotency-outcome: voided"}, true},
		"a list":            {[]string{"Idempotency-Outcome: executed, unknown"}, true},
		"an unknown word":   {[]string{"Idempotency-Outcome: executed", "Idempotency-Outcome: yes"}, true},
		"twice the same":    {[]string{"Idempotency-Outcome: executed", "Idempotency-Outcome: executed"}, false},
		"twice in one line": {[]string{"Idempotency-Outcome: executed, executed"}, false},
		"in other letters":  {[]string{"Idempotency-Outcome: Executed, EXECUTED", "Idempotency-Outcome: executed"}, false},
		"two of them":       {[]string{"Idempotency-Outcome: Executed, VOIDED"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			told := make(chan proxy.Report, 1)
			l := newLedger()
			r := newRig(t, func(conn backendtest.Conn, q *backendtest.Request) {
				l.execute(q.Header)
				conn.Answer(200, "the backend's own", c.fields...)
			}, l.settling(t, 10*time.Second), func(c *proxy.Config) { c.Trace.Done = func(r *proxy.Report) { told <- *r } })
			a := r.post("k", "x")
			got := <-told
			if (got.Settlement == proxy.SettledExecuted) != c.told || got.NoReceipt || (got.Err != nil) != c.told {
				t.Errorf("told: settlement %v, no receipt %v, error %v", got.Settlement, got.NoReceipt, got.Err)
			}
			if c.told && got.Err != nil && (!strings.Contains(got.Err.Error(), "Idempotency-Outcome") || a.body != "|k charged 1") {
				t.Errorf("%q, and the client got %q", got.Err, a.body)
			}
		})
	}
}

// A word that the protocol does not have is not believed, and the log says which one it was.
func TestAWordThatIsNoneIsTold(t *testing.T) {
	t.Parallel()
	told := make(chan proxy.Report, 1)
	l := newLedger()
	r := newRig(t, func(conn backendtest.Conn, _ *backendtest.Request) {
		conn.Answer(409, "the backend's own", "Idempotency-Outcome: rolled back")
	}, l.settling(t, 10*time.Second), func(c *proxy.Config) { c.Trace.Done = func(r *proxy.Report) { told <- *r } })
	a := r.post("k", "x")
	got := <-told
	if a.StatusCode != 409 || a.body != "the backend's own" || got.Settlement != proxy.NotSettled {
		t.Errorf("the client got %d %q, settlement %v", a.StatusCode, a.body, got.Settlement)
	}
	if want := `Idempotency-Outcome is "rolled back": want executed, voided or unknown`; got.Err == nil || got.Err.Error() != want {
		t.Errorf("error %v, want %s", got.Err, want)
	}
}

// What the endpoint answers counts in any letters, too, and what is no word of it is named.
func TestReceiptsInOtherLetters(t *testing.T) {
	t.Parallel()
	for outcome, c := range map[string]struct {
		status int
		body   string // of the response; empty: voided
		err    string
	}{
		"Executed": {200, "made", ""},
		"VOIDED":   {204, "", ""},
		"gone":     {204, "", `Idempotency-Outcome is "gone": want executed, voided or unknown`},
	} {
		endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Idempotency-Outcome", outcome)
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		}))
		t.Cleanup(endpoint.Close)
		receipts, err := proxy.NewHTTPReceipts(endpoint.URL, "", time.Minute, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		response, err := receipts.Void(t.Context(), mustKey("k"), idem.Owner{1})
		switch {
		case c.err != "":
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v", outcome, err)
			}
		case err != nil, (response != nil) != (c.body != ""), response != nil && string(response.Body) != c.body:
			t.Errorf("%s: %v, %v", outcome, response, err)
		}
	}
}

// What the backend itself leaves open is asked about however large its answer is: one that
// is too large to keep is not taken for the end of what may have been rolled back.
func TestDoubtsOfALargeResponse(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", 4096)
	framed := map[string]string{
		"of known length": fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(large), large),
		"chunked":         fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(large), large),
	}
	for name, head := range map[string]string{
		"the commit failed": "500 Internal Server Error\r\nIdempotency-Outcome: unknown",
		"it was voided":     "409 Conflict\r\nIdempotency-Outcome: voided",
		"two words":         "200 OK\r\nIdempotency-Outcome: executed, voided",
		"502":               "502 Bad Gateway",
	} {
		for framing, body := range framed {
			for _, streams := range []bool{false, true} {
				t.Run(fmt.Sprint(name, ", ", framing, ", streams: ", streams), func(t *testing.T) {
					t.Parallel()
					l := newLedger()
					r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
						if q.Number > 1 {
							l.answer(c, q)
							return
						}
						c.Raw("HTTP/1.1 " + head + "\r\n" + body)
					}, l.settling(t, 10*time.Second), func(c *proxy.Config) { c.MaxResponseBody, c.Stream = 1024, streams })
					if a := r.post("k", "x"); a.StatusCode != 502 || strings.Contains(a.body, "xxx") {
						t.Errorf("%d %.40q, want that nothing was done", a.StatusCode, a.body)
					}
					if a := r.post("k", "x"); a.StatusCode != 201 || a.body != "|k charged 1" {
						t.Errorf("the retry got %d %.40q", a.StatusCode, a.body)
					}
					if l.voids.Load() != 1 {
						t.Errorf("%d voids, want 1", l.voids.Load())
					}
				})
			}
		}
	}
}
