package estore

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// A backup is a tar file: the files of a checkpoint of the storage engine, and after them
// one that lists them with their sums, so that what was cut off or changed is noticed. A
// store that is opened from it finds what a start after a crash at that moment would.

// ErrBackup says that a file is not a whole and unchanged backup. It comes wrapped.
var ErrBackup = errors.New("not a whole and unchanged backup")

// Manifest says what is in a backup.
type Manifest struct {
	Format int       `json:"format"` // of the backup itself: backupFormat
	MadeAt time.Time `json:"made_at"`
	Files  []Filed   `json:"files"`
}

// Filed is one file of a backup.
type Filed struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

const (
	backupFormat  = 1
	manifestName  = "BACKUP"
	checkpointDir = "backup.tmp" // in the store's directory: files are linked, and not copied
)

// backing makes backups one at a time.
type backing struct{ mu sync.Mutex }

// ErrBackupRuns says that a backup is being made already.
var ErrBackupRuns = errors.New("a backup is being made already")

// Backup writes a backup of all that was acknowledged by now to w, while the store is
// used. It takes the disk's space for what changes meanwhile.
func (s *Store) Backup(ctx context.Context, w io.Writer) (Manifest, error) {
	if err := s.enter(); err != nil {
		return Manifest{}, err
	}
	defer s.leave()
	if !s.backing.mu.TryLock() {
		return Manifest{}, ErrBackupRuns
	}
	defer s.backing.mu.Unlock()
	dir := s.config.fs.PathJoin(s.config.Dir, checkpointDir)
	if err := s.config.fs.RemoveAll(dir); err != nil { // of a process that ended
		return Manifest{}, fmt.Errorf("removing an earlier checkpoint: %w", err)
	}
	m := Manifest{Format: backupFormat, MadeAt: time.Now().UTC()}
	err := s.db.Checkpoint(dir, pebble.WithFlushedWAL())
	if err == nil {
		err = m.pack(ctx, s.config.fs, dir, w)
	}
	if err = errors.Join(err, s.config.fs.RemoveAll(dir)); err != nil {
		return Manifest{}, fmt.Errorf("making a backup: %w", err)
	}
	return m, nil
}

// pack writes the files in dir, and the manifest.
func (m *Manifest) pack(ctx context.Context, files vfs.FS, dir string, w io.Writer) error {
	names, err := files.List(dir)
	if err != nil {
		return err //nolint:wrapcheck // Backup does
	}
	slices.Sort(names)
	out := tar.NewWriter(w)
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err //nolint:wrapcheck // the caller's own
		}
		if err := m.add(files, dir, name, out); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	text, err := json.Marshal(m)
	if err == nil {
		err = out.WriteHeader(&tar.Header{Name: manifestName, Mode: 0o600, Size: int64(len(text)), ModTime: m.MadeAt})
	}
	if err == nil {
		_, err = out.Write(text)
	}
	return errors.Join(err, out.Close())
}

func (m *Manifest) add(files vfs.FS, dir, name string, out *tar.Writer) error {
	f, err := files.Open(files.PathJoin(dir, name))
	if err != nil {
		return err //nolint:wrapcheck // pack does
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err //nolint:wrapcheck // pack does
	}
	if err := out.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: info.Size(), ModTime: m.MadeAt}); err != nil {
		return err //nolint:wrapcheck // pack does
	}
	sum := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(out, sum), f, info.Size()); err != nil {
		return err //nolint:wrapcheck // pack does
	}
	m.Files = append(m.Files, Filed{name, info.Size(), hex.EncodeToString(sum.Sum(nil))})
	return nil
}

// ReadBackup reads a backup through, gives each file to take, and checks all of it. take may
// be nil.
func ReadBackup(r io.Reader, take func(name string, content io.Reader) error) (Manifest, error) {
	var found []Filed
	for in := tar.NewReader(r); ; {
		head, err := in.Next()
		switch {
		case errors.Is(err, io.EOF):
			return Manifest{}, fmt.Errorf("%w: it ends before its list of files", ErrBackup)
		case err != nil:
			return Manifest{}, fmt.Errorf("%w: %w", ErrBackup, err)
		case head.Name == manifestName:
			return checkManifest(in, found)
		case head.Typeflag != tar.TypeReg || !filepath.IsLocal(head.Name) || filepath.Base(head.Name) != head.Name:
			return Manifest{}, fmt.Errorf("%w: it has a file %q", ErrBackup, head.Name)
		}
		sum := sha256.New()
		content := io.TeeReader(&archived{in}, sum)
		if take != nil {
			if err := take(head.Name, content); err != nil {
				return Manifest{}, err
			}
		}
		if _, err := io.Copy(io.Discard, content); err != nil {
			return Manifest{}, fmt.Errorf("%s: %w", head.Name, err)
		}
		found = append(found, Filed{head.Name, head.Size, hex.EncodeToString(sum.Sum(nil))})
	}
}

// archived says of what it cannot read that it is the backup's fault.
type archived struct{ io.Reader }

// Read implements io.Reader.
func (a *archived) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("%w: %w", ErrBackup, err)
	}
	return n, err
}

// mostListed bounds the list of files.
const mostListed = 64 << 20

func checkManifest(r io.Reader, found []Filed) (m Manifest, err error) {
	if err = json.NewDecoder(io.LimitReader(r, mostListed)).Decode(&m); err != nil {
		return Manifest{}, fmt.Errorf("%w: its list of files: %w", ErrBackup, err)
	}
	if m.Format != backupFormat {
		return Manifest{}, fmt.Errorf("%w: its format is %d, this release reads %d", ErrBackup, m.Format, backupFormat)
	}
	if !slices.Equal(m.Files, found) {
		return Manifest{}, fmt.Errorf("%w: its files are not those of its list", ErrBackup)
	}
	return m, nil
}
