package proxy_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// A backend keeps receipts by Idempotency-Key alone. It sees the same key there however a
// client spells it, once, and so an operation has one effect though the store forgot it.
func TestReceiptsAreOfTheKeyHoweverItIsSpelled(t *testing.T) {
	t.Parallel()
	l := newLedger()
	seen := make(chan map[string][]string, 1)
	respond := func(c backendtest.Conn, q *backendtest.Request) {
		seen <- q.Header
		l.answer(c, q)
	}
	for _, fields := range [][]string{
		{"Idempotency-Key: k"},
		{`Idempotency-Key: "k"`},
		{`Idempotency-Key: "k";of=mine`},
		{`idempotency-key: k`, `Idempotency-Key: "k"`},
		{"X-Idempotency-Key: k"},
		{`X-Idempotency-Key: "k"`, "Connection: Idempotency-Key"},
		{`Idempotency-Key: " k"`}, // another one
		{"X-Order: k", "Idempotency-Key: another", "Idempotency_Key: another"},
	} {
		forgetful := newRig(t, respond, l.settling(t, 10*time.Second), func(c *proxy.Config) {
			if strings.HasPrefix(fields[0], "X-Order") {
				c.KeyHeaders = []string{"X-Order"}
			}
		})
		want, says := "[k] []", "|k charged 1"
		if strings.Contains(fields[0], `" k"`) {
			want, says = `[" k"] []`, `|" k" charged 1`
		}
		a := forgetful.post("", "x", fields...)
		if a.StatusCode != 201 || a.body != says {
			t.Errorf("%q: %d %q", fields, a.StatusCode, a.body)
		}
		h := <-seen
		if got := fmt.Sprint(canonical(h, "Idempotency-Key"), canonical(h, "Idempotency_Key")); got != want {
			t.Errorf("%q: the backend sees the keys %s", fields, got)
		}
	}
}

// What an endpoint answers beside the protocol names the setting that is to be looked at.
func TestReceiptsErrorsSayWhereToLook(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]string{
		401: "it answered PUT with 401 (does receipts_secret_file", 404: "(is receipts the URL", 405: "(is receipts the URL", 204: "without Idempotency-Outcome",
		503: "it answered PUT with 503",
	} {
		endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		t.Cleanup(endpoint.Close)
		receipts, err := proxy.NewHTTPReceipts(endpoint.URL, "", time.Minute, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		_, err = receipts.Void(t.Context(), mustKey("k"), idem.Owner{1})
		if err == nil || !strings.Contains(err.Error(), want) || status == 503 && !strings.HasSuffix(err.Error(), "503") {
			t.Errorf("%d: %v", status, err)
		}
	}
}
