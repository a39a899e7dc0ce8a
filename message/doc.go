// Package message is HTTP/1.1 as this proxy reads and writes it: what a request is
// that every server behind it reads in the same way (framing.go, target.go), its
// header as one table (head.go), the request that goes on (forward.go), and the
// response that comes back, now or from the store (response.go, coding.go).
//
// It knows no keys, no stores and no backends. All bytes that it hands out belong
// to the message that they are from, and end with it.
package message
