// Package clients tries what docs/clients.md says of clients that retry by themselves: which answers they
// repeat, and that `Prefer: wait` is the cure where they stop at a 409. It is a module of its own, since it
// needs such a client, and the product does not.
package clients
