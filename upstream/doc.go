// Package upstream takes a request to one of several backends, once at most, and
// brings the response back: which backend (balance.go), whether it is well
// (watch.go), how it is connected to (dial.go), what was sent of the request
// (upstream.go), and how the response ends (body.go). A protocol that has left HTTP
// is a tunnel (tunnel.go).
package upstream
