package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/estore"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/redact"
	"github.com/idemproxy/idemproxy/pstore"
	"github.com/idemproxy/idemproxy/rstore"
)

// embeddedDir is the directory of an embedded store; empty for that of the user.
func embeddedDir(c *config.Config) (dir string, embedded bool) {
	return strings.CutPrefix(c.Store, "embedded:")
}

// redisOf is a Redis store in its own terms.
func redisOf(c *config.Config) rstore.Config {
	return rstore.Config{
		URL: c.Store, Namespace: c.Namespace, CacheBytes: int64(c.CacheSize), Timeout: c.StoreTimeout,
		WaitReplicas: int(c.WaitReplicas), Journal: journalOf(c), CAFile: c.StoreCA, CertFile: c.StoreCert, KeyFile: c.StoreKey,
	}
}

// postgresOf is a PostgreSQL store in its own terms.
func postgresOf(c *config.Config) pstore.Config {
	return pstore.Config{
		URL: c.Store, Schema: c.StoreSchema, Migrate: c.StoreMigrate, CacheBytes: int64(c.CacheSize), Timeout: c.StoreTimeout,
		CAFile: c.StoreCA, CertFile: c.StoreCert, KeyFile: c.StoreKey,
	}
}

// postgresFault is what is wrong with a PostgreSQL store's settings.
func postgresFault(c *config.Config) error {
	switch {
	case c.WaitReplicas != 0:
		return about("wait-replicas", errors.New("it is for Redis stores; PostgreSQL waits for the standbys that its "+
			"synchronous_standby_names has"))
	case c.Namespace != config.Default().Namespace:
		return about("namespace", errors.New("it is for Redis stores; services that share a PostgreSQL database have a "+
			"store-schema each"))
	}
	postgres := postgresOf(c)
	if err := postgres.Check(); err != nil {
		return about(blameStore(err), err)
	}
	return nil
}

// Migrate makes a PostgreSQL store's tables, or brings them up to date, and says which
// version was there (0: none), and which is now.
func Migrate(ctx context.Context, c *config.Config) (before, now int, err error) {
	if !c.IsPostgres() {
		return 0, 0, c.At(nil, "store", errors.New("only a PostgreSQL store has tables to be made: want postgres://user@host/database"))
	}
	if err := placed(c, postgresFault(c)); err != nil {
		return 0, 0, err
	}
	if before, err = pstore.Migrate(ctx, postgresOf(c)); err != nil {
		return before, 0, fmt.Errorf("--store %s: the schema %s: %w", redact.URL(c.Store), c.StoreSchema, err)
	}
	return before, max(before, pstore.SchemaVersion), nil
}

// checkStore is what is wrong with the store's settings before it is opened.
func checkStore(c *config.Config) error { return placed(c, storeFault(c)) }

func storeFault(c *config.Config) error {
	if dir, embedded := embeddedDir(c); embedded {
		if c.WaitReplicas != 0 {
			return about("wait-replicas", errors.New("an embedded store has no replicas: want a Redis store with it"))
		}
		if dir == "" {
			if _, err := userDataDir(); err != nil {
				return about("store", fmt.Errorf("embedded: has no directory to use: %w", err))
			}
		}
		return nil
	}
	if c.IsPostgres() {
		return postgresFault(c)
	}
	redis := redisOf(c)
	if err := redis.Check(); err != nil {
		return about(blameStore(err), err)
	}
	return nil
}

// settingError is an error with the setting that it is about.
type settingError struct {
	setting string
	err     error
}

func about(setting string, err error) error { return &settingError{setting, err} }

// Error implements error.
func (e *settingError) Error() string { return e.err.Error() }

// Unwrap gives errors.Is what it looks for.
func (e *settingError) Unwrap() error { return e.err }

// placed says where the setting was set that an error is about.
func placed(c *config.Config, err error) error {
	var e *settingError
	if errors.As(err, &e) {
		return c.At(nil, e.setting, e.err)
	}
	return err
}

// placedBeside is placed for a store that a command names itself: nothing was set then, and
// the error says which store it is.
func placedBeside(c *config.Config, err error) error {
	var e *settingError
	if errors.As(err, &e) && e.setting == "store" {
		return e.err
	}
	return placed(c, err)
}

// blameStore names the setting that a Redis or PostgreSQL store's error is about.
func blameStore(err error) string {
	switch {
	case errors.Is(err, rstore.ErrCA), errors.Is(err, pstore.ErrCA):
		return "store-ca"
	case errors.Is(err, rstore.ErrCertificate), errors.Is(err, pstore.ErrCertificate):
		return "store-cert"
	case errors.Is(err, rstore.ErrKey), errors.Is(err, pstore.ErrKey):
		return "store-key"
	case errors.Is(err, rstore.ErrNamespace):
		return "namespace"
	case errors.Is(err, pstore.ErrSchema):
		return "store-schema"
	}
	return "store"
}

// openStore opens the store that the settings name, or makes it.
func openStore(c *config.Config, codec idem.Codec, log zerolog.Logger) (gatedStore, error) {
	store, err := openAs(c, codec, log, false)
	return store, placed(c, err)
}

// openNamed opens, or makes, a store that a command names itself.
func openNamed(c *config.Config, codec idem.Codec) (gatedStore, error) {
	store, err := openAs(c, codec, zerolog.Nop(), false)
	return store, placedBeside(c, err)
}

// openExisting is openNamed to read what is in the store: a name that is wrong must not make an
// empty store, whose copy or backup would pass for that of the right one.
func openExisting(c *config.Config, codec idem.Codec) (gatedStore, error) {
	store, err := openAs(c, codec, zerolog.Nop(), true)
	return store, placedBeside(c, err)
}

func openAs(c *config.Config, codec idem.Codec, log zerolog.Logger, existing bool) (gatedStore, error) {
	if err := storeFault(c); err != nil {
		return nil, err
	}
	if c.IsPostgres() {
		postgres := postgresOf(c)
		postgres.Logger, postgres.Codec = log, codec
		postgres.Migrate = postgres.Migrate && !existing
		store, err := pstore.New(postgres)
		if err != nil {
			return nil, about(blameStore(err), err)
		}
		return &gatedPostgres{Store: store}, nil
	}
	dir, embedded := embeddedDir(c)
	if !embedded {
		redis := redisOf(c)
		redis.Logger, redis.Codec = log, codec
		store, err := rstore.New(redis)
		if err != nil {
			return nil, about(blameStore(err), err)
		}
		return &gatedRedis{Store: store}, nil
	}
	if dir == "" {
		var err error
		if dir, err = userDataDir(); err != nil {
			return nil, about("store", fmt.Errorf("embedded: has no directory to use: %w", err))
		}
	}
	store, err := estore.New(estore.Config{
		Dir: dir, Existing: existing, CacheBytes: int64(c.CacheSize), Timeout: c.StoreTimeout, Logger: log, Codec: codec,
		SweepEvery: sweepEvery,
	})
	if err != nil {
		return nil, about("store", err) // which names the directory
	}
	return &gatedEmbedded{Store: store}, nil
}

// journalOf has 0 mean none, where the store has it mean the default.
func journalOf(c *config.Config) time.Duration {
	if c.StoreJournal == 0 {
		return -1
	}
	return c.StoreJournal
}

// userDataDir is where a user's programs keep data, by the XDG convention.
func userDataDir() (string, error) {
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "idemproxy"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err //nolint:wrapcheck // the caller says what for
	}
	return filepath.Join(home, ".local", "share", "idemproxy"), nil
}
