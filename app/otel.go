//go:build otel

package app

import (
	"context"
	"fmt"
	"time"

	"github.com/rs/zerolog"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/idemproxy/idemproxy/internal/redact"
	"github.com/idemproxy/idemproxy/proxy"
)

const canTrace = true

// otelTracing sends spans by OTLP. The library's own environment variables
// (OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME, OTEL_EXPORTER_OTLP_HEADERS, ...) count.
type otelTracing struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	context  propagation.TraceContext
}

func newTracing(url string, log zerolog.Logger) (tracing, error) {
	exporter, err := otlptracehttp.New(context.Background(), otlptracehttp.WithEndpointURL(url))
	if err != nil {
		return nil, fmt.Errorf("the exporter: %w", redact.Error(err, url))
	}
	about, err := resource.New(context.Background(),
		resource.WithAttributes(attribute.String("service.name", "idemproxy"), attribute.String("service.version", Version())),
		resource.WithFromEnv(), resource.WithHost())
	if err != nil {
		return nil, fmt.Errorf("what describes this process: %w", err)
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		log.Warn().Str("event", "spans_lost").Err(redact.Error(err, url)).Msg("spans could not be sent")
	}))
	p := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
	return &otelTracing{provider: p, tracer: p.Tracer("github.com/idemproxy/idemproxy")}, nil
}

// begin starts a span, whose parent is the client's.
func (t *otelTracing) begin(r *proxy.Report, traceparent string, at time.Time) trace.Span {
	ctx := context.Background()
	if traceparent != "" {
		ctx = t.context.Extract(ctx, propagation.MapCarrier{"traceparent": traceparent})
	}
	_, span := t.tracer.Start(ctx, string(r.Method), trace.WithTimestamp(at), trace.WithSpanKind(trace.SpanKindServer))
	return span
}

func (t *otelTracing) forward(r *proxy.Report) string {
	span := t.begin(r, string(r.Traceparent), time.Now())
	r.Span = span
	carrier := propagation.MapCarrier{}
	t.context.Inject(trace.ContextWithSpan(context.Background(), span), carrier)
	return carrier["traceparent"]
}

func (t *otelTracing) done(r *proxy.Report) {
	span, forwarded := r.Span.(trace.Span)
	if !forwarded {
		span = t.begin(r, string(r.Traceparent), time.Now().Add(-r.Duration))
	}
	span.SetAttributes(
		attribute.String("http.request.method", string(r.Method)), attribute.String("url.path", string(r.Path)),
		attribute.Int("http.response.status_code", r.Status), attribute.String("http.route", r.Route),
		attribute.String("idemproxy.outcome", r.Outcome.String()),
	)
	if r.Keyed {
		span.SetAttributes(attribute.String("idemproxy.key", r.Key.String()), attribute.Int("idemproxy.attempt", int(r.Attempt)))
	}
	if r.Err != nil {
		span.RecordError(r.Err)
	}
	if r.Status >= 500 {
		span.SetStatus(codes.Error, r.Outcome.String())
	}
	span.End()
}

func (t *otelTracing) close(ctx context.Context) { _ = t.provider.Shutdown(ctx) }
