package app

import (
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

// checkStore is what is wrong with the store's settings before it is opened.
func checkStore(c *config.Config) error {
	if dir, embedded := embeddedDir(c); embedded {
		if c.WaitReplicas != 0 {
			return c.At(nil, "wait-replicas", errors.New("an embedded store has no replicas: want a Redis store with it"))
		}
		if dir == "" {
			if _, err := userDataDir(); err != nil {
				return c.At(nil, "store", fmt.Errorf("embedded: has no directory to use: %w", err))
			}
		}
		return nil
	}
	redis := redisOf(c)
	if err := redis.Check(); err != nil {
		return c.At(nil, blameStore(err), err)
	}
	return nil
}

// blameStore names the setting that a Redis store's error is about.
func blameStore(err error) string {
	switch {
	case errors.Is(err, rstore.ErrCA):
		return "store-ca"
	case errors.Is(err, rstore.ErrCertificate):
		return "store-cert"
	case errors.Is(err, rstore.ErrKey):
		return "store-key"
	case errors.Is(err, rstore.ErrNamespace):
		return "namespace"
	}
	return "store"
}

func openStore(c *config.Config, codec idem.Codec, log zerolog.Logger) (gatedStore, error) {
	if err := checkStore(c); err != nil {
		return nil, err
	}
	dir, embedded := embeddedDir(c)
	if !embedded {
		redis := redisOf(c)
		redis.Logger, redis.Codec = log, codec
		store, err := rstore.New(redis)
		if err != nil {
			return nil, c.At(nil, blameStore(err), err)
		}
		return &gatedRedis{Store: store}, nil
	}
	if dir == "" {
		var err error
		if dir, err = userDataDir(); err != nil {
			return nil, c.At(nil, "store", fmt.Errorf("embedded: has no directory to use: %w", err))
		}
	}
	store, err := estore.New(estore.Config{
		Dir: dir, CacheBytes: int64(c.CacheSize), Timeout: c.StoreTimeout, Logger: log, Codec: codec,
	})
	if err != nil {
		return nil, fmt.Errorf("--store %s: %w", c.Store, err)
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
