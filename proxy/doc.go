// Package proxy is where a request is met: it is read (package message), it is told
// who asks (caller) and for which operation (operation), taken through the engine
// (idem) and to a backend at most once (upstream), and answered. keyed.go is that on
// one screen; a request without a key is passed through (passthrough.go).
//
// It knows idem.Engine, never a store, and reports what happens through Trace;
// metrics and logs are made elsewhere.
//
// fasthttp reuses its buffers: nothing taken from a RequestCtx outlives the
// handler without a copy.
package proxy
