// Package estore is the embedded store: one process, one directory, every
// promise kept on one machine's disk. It is IdemProxy's default.
//
// What is written is on disk (fsync, many callers sharing one) before the call
// returns: an acquire before its request may be forwarded, a completed response
// before its client may see it. Renewals stay in memory: the only process that
// could hold a lease is this one, and after a crash every lease that was running
// starts anew, since the backend may still be at work. Nobody waits for a disk that
// hangs for longer than the store's timeout; who renews, or is answered from memory,
// does not wait for it at all.
//
// A completed record is rewritten without its response when that has ended, and
// goes when nobody need remember its key any more; what may have executed has no end.
//
// The engine is Pebble; docs/decisions/0001-embedded-engine.md says why. What
// lives here is the mapping: which records are in memory (those in progress),
// which on disk, when they expire, and whose clock that is. HTTP does not live
// here.
package estore
