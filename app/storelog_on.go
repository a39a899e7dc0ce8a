//go:build storelog

package app

import (
	"os"

	"github.com/idemproxy/idemproxy/internal/storelog"
)

// logged is the store with a log of what it is asked and answers, if the environment names a
// file for it. A log that cannot be written ends the process: the test would take what is
// missing for a fault of the store.
func logged(s gatedStore) askedStore {
	name := os.Getenv(storelog.Variable)
	if name == "" {
		return s
	}
	log, err := storelog.Open(name)
	if err != nil {
		panic(err)
	}
	return storelog.Wrap(s, log, 0)
}
