// Package proxy is IdemProxy's HTTP side: it tells which operation a request is
// (identify.go, fingerprint.go), takes it through the engine (keyed.go), sends
// it to the backend at most once (upstream.go), and answers (headers.go,
// problem.go). A request without a key is passed through (passthrough.go).
//
// It knows idem.Engine, never a store, and reports what happens through Trace;
// metrics and logs are made elsewhere.
//
// fasthttp reuses its buffers: nothing taken from a RequestCtx outlives the
// handler without a copy.
package proxy
