//go:build otel

package app_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// Each request is a span: a child of the client's, and the parent of the
// backend's, with what was decided.
func TestSpans(t *testing.T) {
	t.Parallel()
	sent := make(chan *spans.Span, 16)
	otlp := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		var q collector.ExportTraceServiceRequest
		if err := proto.Unmarshal(b, &q); err != nil {
			t.Error(err)
		}
		for _, rs := range q.GetResourceSpans() {
			for _, ss := range rs.GetScopeSpans() {
				for _, s := range ss.GetSpans() {
					sent <- s
				}
			}
		}
		w.WriteHeader(http.StatusOK)
	}))
	t.Cleanup(otlp.Close)
	seen := make(chan string, 1)
	b := backendtest.Start(t, func(c backendtest.Conn, q *backendtest.Request) {
		seen <- q.Header.Get("Traceparent")
		backendtest.OK(c, q)
	})
	t.Run("proxy", func(t *testing.T) { // whose end sends what is left
		a, _ := run(t, zerolog.Disabled, b.URL(), func(c *config.Config) { c.OTLP = otlp.URL + "/v1/traces" })
		for range 2 {
			req, _ := http.NewRequest(http.MethodPost, a.URL()+"/pay", strings.NewReader("x")) //nolint:noctx // a test
			req.Header.Set("Idempotency-Key", "k")
			req.Header.Set("Traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	})
	executed, replayed := <-sent, <-sent
	if got := outcomeOf(replayed); got != "replayed-store" {
		t.Errorf("the second is %s", got)
	}
	if got := outcomeOf(executed); got != "executed" {
		t.Errorf("the first is %s", got)
	}
	for _, s := range []*spans.Span{executed, replayed} {
		if hex(s.GetTraceId()) != "4bf92f3577b34da6a3ce929d0e0e4736" || s.GetName() != "POST" {
			t.Errorf("%s in trace %x", s.GetName(), s.GetTraceId())
		}
	}
	if hex(executed.GetParentSpanId()) != "00f067aa0ba902b7" {
		t.Errorf("its parent is %x", executed.GetParentSpanId())
	}
	if want := "00-4bf92f3577b34da6a3ce929d0e0e4736-" + hex(executed.GetSpanId()) + "-01"; <-seen != want {
		t.Errorf("the backend did not get %s", want)
	}
}

func hex(b []byte) string {
	const digits = "0123456789abcdef"
	var s strings.Builder
	for _, c := range b {
		s.WriteByte(digits[c>>4])
		s.WriteByte(digits[c&15])
	}
	return s.String()
}

func outcomeOf(s *spans.Span) string {
	for _, a := range s.GetAttributes() {
		if a.GetKey() == "idemproxy.outcome" {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}
