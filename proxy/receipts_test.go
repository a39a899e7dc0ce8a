package proxy_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

func TestReceiptsThatCannotBe(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ url, file, says string }{
		{"", "", "cannot be asked"},
		{"localhost:1", "", "cannot be asked"},
		{"http://u:p@x/", "", "cannot be asked"},
		{"http://x/#y", "", "cannot be asked"},
		{"http://x/", empty, "is empty"},
		{"http://x/", empty + "-not", "reading the secret"},
	} {
		if _, err := proxy.NewHTTPReceipts(c.url, c.file, time.Second, 1); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q with %q: %v", c.url, c.file, err)
		}
	}
	for name, change := range map[string]func(*proxy.Config){
		"no receipts": func(*proxy.Config) {},
		"derived keys": func(c *proxy.Config) {
			c.Receipts, _ = proxy.NewHTTPReceipts("http://127.0.0.1:1", "", time.Second, 1)
			c.DeriveKey = time.Minute
		},
	} {
		c := proxy.Config{Engine: idem.NewEngine(idem.Config{}), Rules: proxy.Rules{Policy: idem.DefaultPolicy()}}
		c.Policy.OnAmbiguous = idem.AmbiguousSettle
		c.Upstream.Backends = []string{"http://127.0.0.1:1"}
		change(&c)
		if _, err := proxy.New(c); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// The endpoint is shown its secret, and is asked about the operation by the scope that
// the backend knows it by.
func TestReceiptsAreAskedFor(t *testing.T) {
	t.Parallel()
	asked := make(chan *http.Request, 4)
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r
		w.Header().Set("Idempotency-Outcome", "voided")
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(endpoint.Close)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sent := make(chan http.Header, 4)
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		sent <- q.Header
		_ = c.Close()
	}, scopedByAccount, func(c *proxy.Config) {
		receipts, err := proxy.NewHTTPReceipts(endpoint.URL+"/r?db=1", secret, 10*time.Second, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		c.Receipts, c.Policy.OnAmbiguous = receipts, idem.AmbiguousSettle
	})
	r.isProblem(r.post("a/key?of=mine", "x", "X-Account: 7"), 502, "attempt-voided")
	q, h := <-asked, <-sent
	if q.Method != http.MethodPut || q.URL.RequestURI() != "/r?db=1" || q.Header.Get("Authorization") != "Bearer s3cret" || q.ContentLength > 0 {
		t.Errorf("asked %s %s, %v", q.Method, q.URL, q.Header)
	}
	for _, name := range []string{"Idempotency-Key", "Idempotency-Scope", "Idempotency-Attempt-Token"} {
		if q.Header.Get(name) != h.Get(name) || h.Get(name) == "" {
			t.Errorf("%s is %q where the backend has %q", name, q.Header.Get(name), h.Get(name))
		}
	}
}

// An operator sees what the backend has, and changes nothing by looking.
func TestReceiptIsShown(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]int{"executed": 201, "none": 0} {
		t.Run(answer, func(t *testing.T) {
			t.Parallel()
			endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.Method != http.MethodGet:
					w.WriteHeader(http.StatusServiceUnavailable)
				case answer == "executed":
					w.Header().Set("Idempotency-Outcome", "executed")
					w.Header().Set("Idempotency-Status", "201")
				default:
					w.WriteHeader(http.StatusNotFound)
				}
			}))
			t.Cleanup(endpoint.Close)
			r := newRig(t, cutFirst, func(c *proxy.Config) {
				receipts, err := proxy.NewHTTPReceipts(endpoint.URL, "", 10*time.Second, 1<<20) // SettleWithin bounds what a request waits
				if err != nil {
					t.Fatal(err)
				}
				c.Receipts, c.SettleWithin, c.Policy.OnAmbiguous = receipts, 50*time.Millisecond, idem.AmbiguousSettle
			})
			r.isProblem(r.post("k", "x"), 502, "outcome-pending")
			record, err := r.store.Get(t.Context(), mustKey("k"))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			response, err := r.server.Receipt(ctx, &record)
			if err != nil || (response == nil) != (want == 0) || response != nil && response.Status != want {
				t.Errorf("%+v, %v", response, err)
			}
			record.Recipe++
			if _, err := r.server.Receipt(ctx, &record); err == nil {
				t.Error("a record of another endpoint was asked about")
			}
		})
	}
}
