package estore_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/idemproxy/idemproxy/estore"
)

// unlockable is a disk on which no lock can be had, since something is not permitted.
type unlockable struct{ vfs.FS }

func (unlockable) Lock(string) (io.Closer, error) { return nil, syscall.EACCES }

// Who may not write to a directory is told so, and not that another process is using it: there
// is none to look for. Some systems say of a lock that is held that it is not permitted.
func TestADirectoryThatMayNotBeWrittenToIsNotInUse(t *testing.T) {
	t.Parallel()
	for _, locked := range []bool{false, true} {
		dir := t.TempDir()
		if locked {
			if err := os.WriteFile(filepath.Join(dir, "LOCK"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, err := estore.New(estore.Config{Dir: dir}.OnFS(unlockable{vfs.Default}))
		if errors.Is(err, estore.ErrInUse) != locked || !locked && !errors.Is(err, syscall.EACCES) {
			t.Errorf("the lock is there: %v; %v", locked, err)
		}
	}
}
