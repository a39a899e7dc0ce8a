// Package receipt lets a backend prove what became of a request, so that the proxy
// before it never has to guess: the effect of a request and its receipt are written
// in one transaction of the backend's own database, and the same row is a fence
// against an attempt that comes late. docs/receipts.md has the protocol and the
// argument why it is right.
//
// A backend uses it in three places:
//
//	receipts, err := receipt.New(receipt.PostgreSQL)
//	mux.Handle("PUT /receipts", receipts.Endpoint(db, token)) // what the proxy asks
//	mux.Handle("POST /pay", receipts.Middleware(db, pay))     // or Do, where it begins transactions itself
//	go func() { receipts.Clean(ctx, db, 30*24*time.Hour) }()  // from time to time
//
// The table is in migrations/, a file for each dialect ([Dialect.Migration]).
//
// Everything is safe for concurrent use. It depends on the standard library only.
package receipt
