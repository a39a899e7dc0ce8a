//go:build !storelog

package app

// logged is the store with a log of what it is asked and answers, in a build with the tag
// storelog, which is for tests. This one has none.
func logged(s gatedStore) askedStore { return s }
