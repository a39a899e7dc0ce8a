// Package model has the protocol as a Promela model, which Spin checks
// exhaustively; docs/model.md says what that covers.
package model
