package app

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/estore"
)

// backup is what /backup does; nil where the store is not embedded.
func (a *App) backup() func(context.Context, string, io.Writer) error {
	store, embedded := a.store.(*gatedEmbedded)
	if !embedded {
		return nil
	}
	return func(ctx context.Context, remote string, w io.Writer) error {
		m, err := store.Backup(ctx, w)
		e := a.log.Warn().Str("event", "backup").Str("remote", remote)
		if err != nil {
			e.Err(err).Msg("a backup of the store failed")
			return err
		}
		e.Int("files", len(m.Files)).Msg("a backup of the store was made")
		return nil
	}
}

// ErrNotEmbedded is what backup and restore say of other stores.
var ErrNotEmbedded = errors.New("the store of these settings is not an embedded one; Redis and " +
	"PostgreSQL have ways of their own (docs/backup.md)")

// BackUp writes a backup of an embedded store that no proxy uses.
func BackUp(ctx context.Context, c *config.Config, w io.Writer) error {
	if _, embedded := embeddedDir(c); !embedded {
		return ErrNotEmbedded
	}
	store, err := openExisting(c, nil) // what is sealed stays so
	if err != nil {
		return err
	}
	defer func() { _ = store.Close() }()
	_, err = store.(*gatedEmbedded).Backup(ctx, w) //nolint:forcetypeassert // see above
	return err
}

// Backup says what a backup has, once all of it was checked.
type Backup = estore.Manifest

// CheckBackup reads a backup through.
func CheckBackup(r io.Reader) (Backup, error) {
	m, err := estore.ReadBackup(r, nil)
	if err != nil {
		return m, fmt.Errorf("the backup: %w", err)
	}
	return m, nil
}

// RestoreBackup makes a store's directory of a backup.
func RestoreBackup(r io.Reader, dir string) (Backup, error) {
	return estore.Restore(r, dir)
}
