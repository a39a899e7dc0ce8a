// Package pstore is the store on PostgreSQL 14 and above: many proxies, one truth,
// as durable as the operator has the server's commits be.
//
// Each operation is one function of the server, called in one statement which is a
// transaction of its own: one round trip, and decided by the server's clock. The
// functions and the tables are in schema1.sql. Nothing is sent twice by itself, but
// for what the server certainly did not do: it said so (a serialization failure), or
// not one byte of it left this process. What was sent and not answered may have been
// committed; it is idem.ErrUnavailable, and asked again with the same owner token.
//
// # The local cache
//
// A replay whose record this process has met costs no round trip while it hears the
// server's notifications: a trigger tells everybody of completed records that are
// deleted or changed, whoever did that. The connection that it hears by is tried
// every second, by a notification that goes the whole way (see listen.go). Without
// it there is no cache. Over the same channel proxies tell each other which keys
// have changed, for requests that wait for them (see announce.go).
package pstore
