//go:build !failpoints

package app

// pointed is the store with points between its calls and their answers, in a build with
// the tag failpoints. This one has none.
func pointed(s gatedStore) gatedStore { return s }

// sweepEvery is how often the embedded store removes what has ended; 0: by its default.
const sweepEvery = 0
