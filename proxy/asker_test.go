package proxy_test

import (
	"context"
	"encoding/pem"
	"errors"
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

// patient is how long an endpoint may take in tests that are not about time.
const patient = 30 * time.Second

// said is a response of an endpoint, one line for each field, and then its body.
func said(r *idem.Response) string {
	if r == nil {
		return ""
	}
	var all strings.Builder
	for _, f := range r.Header {
		_, _ = fmt.Fprintf(&all, "%s: %s\n", f.Name, f.Value)
	}
	return all.String() + string(r.Body)
}

func receiptsAt(t *testing.T, url string) *proxy.HTTPReceipts {
	t.Helper()
	receipts, err := proxy.NewHTTPReceipts(url, "", patient, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return receipts
}

// What the endpoint for receipts answers is read as what a backend answers. So is what a
// resolver does: both are asked in one way.
func TestAnswersAboutAttemptsAreReadAsABackends(t *testing.T) {
	t.Parallel()
	const executed = "HTTP/1.1 200 OK\r\nIdempotency-Outcome: executed\r\n"
	for name, c := range map[string]struct{ answer, said, err string }{
		"codings on two lines": {
			executed + "Content-Encoding: own\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nab", "Content-Encoding: own, gzip\nab", "",
		},
		"interim":           {"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + executed + "Content-Length: 2\r\n\r\nab", "ab", ""},
		"chunks":            {executed + "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n", "ab", ""},
		"until the end":     {executed + "Connection: close\r\n\r\nab", "ab", ""},
		"folded lines":      {strings.ReplaceAll(executed+"X: 1\r\n 2\r\nContent-Length: 2\r\n\r\nab", "\r\n", "\n"), "X: 1 2\nab", ""},
		"a carriage return": {executed + "X: a\rb\r\nContent-Length: 0\r\n\r\n", "", "CR or NUL"},
		"cut in its header": {executed, "", "EOF"},
		"cut in its chunks": {executed + "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n", "", "EOF"},
		"cut in its body":   {executed + "Content-Length: 3\r\n\r\nab", "", "EOF"},
		"a long body":       {executed + "Content-Length: 2000\r\n\r\n" + strings.Repeat("x", 2000), "", "size"},
		"a long header":     {executed + "X: " + strings.Repeat("x", 70<<10) + "\r\n\r\n", "", "too large"},
		"endless interim":   {strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 50_000), "", "interim"},
		"another protocol":  {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "", "switched protocols"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			endpoint := backendtest.Start(t, func(conn backendtest.Conn, _ *backendtest.Request) {
				conn.Raw(c.answer)
				_ = conn.Close()
			})
			response, err := receiptsAt(t, endpoint.URL()).Void(t.Context(), mustKey("k"), idem.Owner{1})
			switch {
			case c.err == "" && (err != nil || said(response) != c.said):
				t.Errorf("%q, %v", said(response), err)
			case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
				t.Errorf("%q, %v, want an error with %q", said(response), err, c.err)
			}
		})
	}
}

// A connection serves the next question if nothing is left on it, and no other.
func TestConnectionsToEndpoints(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer string
		conns  int
	}{
		"kept":        {"HTTP/1.1 204 No Content\r\nIdempotency-Outcome: voided\r\n\r\n", 1},
		"closed":      {"HTTP/1.1 204 No Content\r\nIdempotency-Outcome: voided\r\nConnection: close\r\n\r\n", 3},
		"more behind": {"HTTP/1.1 204 No Content\r\nIdempotency-Outcome: voided\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			endpoint := backendtest.Start(t, func(conn backendtest.Conn, _ *backendtest.Request) { conn.Raw(c.answer) })
			receipts := receiptsAt(t, endpoint.URL())
			for range 3 {
				if response, err := receipts.Void(t.Context(), mustKey("k"), idem.Owner{1}); response != nil || err != nil {
					t.Fatalf("%v, %v", response, err)
				}
			}
			if n := endpoint.Conns(); n != c.conns {
				t.Errorf("%d connections, want %d", n, c.conns)
			}
		})
	}
}

// Endpoints are asked over TLS, too, and have to show a certificate for their name.
func TestEndpointsOverTLS(t *testing.T) {
	t.Parallel()
	endpoint := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Idempotency-Outcome", "voided")
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(endpoint.Close)
	receipts := receiptsAt(t, endpoint.URL)
	if _, err := receipts.Void(t.Context(), mustKey("k"), idem.Owner{1}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate of nobody who is trusted: %v", err)
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: endpoint.Certificate().Raw})
	if err := receipts.Trusting(ca); err != nil {
		t.Fatal(err)
	}
	if response, err := receipts.Void(t.Context(), mustKey("k"), idem.Owner{1}); response != nil || err != nil {
		t.Errorf("%v, %v", response, err)
	}
}

// A question does not outlast who asks, nor its own time.
func TestEndpointsThatSayNothing(t *testing.T) {
	t.Parallel()
	silent, asked := mute(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	if _, err := receiptsAt(t, silent).Void(ctx, mustKey("k"), idem.Owner{1}); err == nil || ctx.Err() == nil {
		t.Errorf("%v, %v", err, ctx.Err())
	}
	short, err := proxy.NewHTTPReceipts(silent, "", 20*time.Millisecond, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var late interface{ Timeout() bool }
	if _, err := short.Void(t.Context(), mustKey("k"), idem.Owner{1}); !errors.As(err, &late) || !late.Timeout() {
		t.Errorf("%v, want a timeout", err)
	}
}
