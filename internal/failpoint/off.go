//go:build !failpoints

package failpoint

// Reach is a point where nothing can fail.
func Reach(string) {}

// Fail is a point where an error can be returned: nil, unless a test wants one.
func Fail(string) error { return nil }
