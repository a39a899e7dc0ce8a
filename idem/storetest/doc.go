// Package storetest is the contract of idem.Store as a suite: whoever writes a
// store runs [Run] against it. It also holds [Memory], the reference that the
// suite compares random histories with, and stores with one planted bug each,
// which show that the suite can fail.
//
// Nothing but tests imports it.
package storetest
