// Package history records what concurrent clients of a store are told, and
// checks with porcupine that there is a sequential order of it that the state
// machine of package idem allows. It has tests only.
package history
