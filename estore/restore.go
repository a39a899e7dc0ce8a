package estore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"
)

var (
	// ErrNotEmpty says that there is something where a backup would be restored to.
	ErrNotEmpty = errors.New("there is something already")
	// ErrRestoring says that a directory has a part of a backup.
	ErrRestoring = errors.New("a restore into it runs, or was stopped: then empty it, and restore again")
)

const (
	restoringName = ".restoring"  // after the directory's name, until all is there
	restoringDir  = "restore.tmp" // in a directory that is there, until all is; New opens none that has it
	lostAndFound  = "lost+found"  // what file systems have at their root
)

// Restore makes a store's directory of a backup. There may be nothing in it; and there is
// nothing, or all of the backup, when it returns.
//
// A directory that is there is kept: it may be a volume, or in a place where its owner can
// make no other one.
func Restore(r io.Reader, dir string) (m Manifest, err error) {
	dir = filepath.Clean(dir)
	switch entries, err := os.ReadDir(dir); {
	case errors.Is(err, fs.ErrNotExist):
		m, err = restoreBeside(r, dir)
		return m, restoreError(dir, err)
	case err != nil:
		return m, restoreError(dir, err)
	default:
		for _, e := range entries {
			switch e.Name() {
			case lostAndFound:
			case restoringDir:
				return m, restoreError(dir, ErrRestoring)
			default:
				return m, restoreError(dir, fmt.Errorf("%w; name a new directory, or move this one away", ErrNotEmpty))
			}
		}
	}
	m, err = restoreInside(r, dir)
	return m, restoreError(dir, err)
}

func restoreError(dir string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("restoring to %s: %w", dir, err)
}

// restoreBeside makes a new directory, under another name until all is in it.
func restoreBeside(r io.Reader, dir string) (m Manifest, err error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return m, err //nolint:wrapcheck // Restore does
	}
	part := dir + restoringName
	if m, err = unpack(r, part); err != nil {
		return m, err
	}
	if err = os.Rename(part, dir); err != nil {
		return m, errors.Join(err, os.RemoveAll(part))
	}
	return m, syncDir(filepath.Dir(dir))
}

// restoreInside moves what was unpacked in the directory itself up, once all is there. What
// it was unpacked in goes last: until then, New does not take the directory for a store.
func restoreInside(r io.Reader, dir string) (m Manifest, err error) {
	part := filepath.Join(dir, restoringDir)
	if m, err = unpack(r, part); err != nil {
		return m, err
	}
	for i, f := range m.Files {
		if err = os.Rename(filepath.Join(part, f.Name), filepath.Join(dir, f.Name)); err != nil {
			for _, moved := range m.Files[:i] {
				err = errors.Join(err, os.Remove(filepath.Join(dir, moved.Name)))
			}
			return m, errors.Join(err, os.RemoveAll(part))
		}
	}
	if err = syncDir(dir); err == nil {
		err = os.Remove(part)
	}
	return m, errors.Join(err, syncDir(dir))
}

// unpack writes a backup's files into a new directory, or leaves none.
func unpack(r io.Reader, part string) (m Manifest, err error) {
	switch err = os.Mkdir(part, 0o700); {
	case errors.Is(err, fs.ErrExist):
		return m, fmt.Errorf("another restore runs, or was stopped: then delete %s: %w", part, err)
	case err != nil:
		return m, err //nolint:wrapcheck // Restore does
	}
	m, err = ReadBackup(r, func(name string, content io.Reader) error { return writeFile(filepath.Join(part, name), content) })
	if err == nil {
		err = syncDir(part)
	}
	if err != nil {
		err = errors.Join(err, os.RemoveAll(part))
	}
	return m, err
}

// restored is ErrRestoring for a directory that may have a part of a backup.
func restored(files vfs.FS, dir string) error {
	if _, err := files.Stat(files.PathJoin(dir, restoringDir)); err == nil {
		return ErrRestoring
	}
	return nil
}

func writeFile(name string, content io.Reader) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // a plain name, in a directory of ours
	if err != nil {
		return err //nolint:wrapcheck // Restore does
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(name string) error {
	f, err := os.Open(name) //nolint:gosec // the operator names it
	if err != nil {
		return err //nolint:wrapcheck // the caller says what for
	}
	return errors.Join(f.Sync(), f.Close())
}
