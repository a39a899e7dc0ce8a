// Package idem is the domain of IdemProxy: what an idempotency key is, what a
// record of it holds, which transitions it may make, the contract a store must
// keep, and the engine that drives one request through a store.
//
// It knows neither HTTP nor Redis nor a disk, and imports nothing but the
// standard library.
//
// # Promises
//
//   - P1 One execution at a time: no two requests with one key run on the
//     backend while the lease is kept; a lost lease is detected and reported.
//   - P2 One outcome: a stored response is what every later request with the
//     same key and payload gets.
//   - P3 No mix-ups: another payload or another caller is a mismatch; it gets
//     no response and does not execute.
//   - P4 No silent resend: the engine forwards an attempt once.
//   - P5 Fail closed: a store that cannot answer means no execution.
//   - P6 Nothing lost: an answer that the store could not take is kept and
//     offered again until it is taken or the lease is proved lost.
//   - P7 Honest ambiguity: "may have executed" is a state of its own.
//
// # Whose bytes
//
// A store copies what it keeps: arguments belong to the caller and may change
// as soon as a call returns. A [Response] that a store returns is shared and
// must not be written to.
//
// # Whose clock
//
// Leases are measured by the store's clock alone. The engine's own clock is
// monotonic and decides two things: whether a lease may still be trusted without
// asking, which is so only while less than its TTL has passed since the acquire
// or renewal that granted it was sent; and how long an acquire that was not
// answered is looked for, which is longer than the store may still grant it.
package idem
