// Package rstore is the store on Redis 7.0.5 and above or a Redis Cluster: many
// proxies, one truth. It uses nothing that Valkey has not, too, but has not been
// tried on it.
//
// Each operation is one atomic Lua script on one record, called by its SHA. The
// scripts are acquire.lua and settle.lua; the record that they read and write is
// laid out in package idem. A response that its record is to outlive is in a key
// of its own in the same slot, so that Redis can end it alone. Nothing is ever
// sent twice by itself: retries are off in the client library, and each
// repetition, after NOSCRIPT, TRYAGAIN or "too late", follows an answer that
// proves that nothing was done.
//
// # The local cache
//
// A replay whose record this process has met costs no round trip. The server
// remembers, for each connection, the keys that acquire.lua read (CLIENT
// TRACKING, default mode, NOLOOP) and tells that connection when one of them
// changes, expires or is deleted by anybody. What a connection cannot be told
// any more, because it broke, is forgotten at once. docs/decisions/0002 says
// what else was considered.
package rstore
