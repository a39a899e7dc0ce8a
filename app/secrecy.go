package app

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/seal"
)

// codecOf is what the store does to responses at rest, nil for nothing.
func codecOf(c *config.Config) (idem.Codec, error) {
	settings := seal.Config{CompressFrom: int(c.CompressFrom)}
	if c.EncryptionKeys != "" {
		var err error
		if settings.Keys, err = seal.ReadKeys(c.EncryptionKeys); err != nil {
			return nil, c.At(nil, "encryption-keys", err)
		}
	}
	// A codec in any case: what was written with compression is read without.
	codec, err := seal.New(settings)
	if err != nil {
		return nil, c.At(nil, "encryption-keys", err)
	}
	return codec, nil
}

// leastSecret is the shortest secret that is taken for one.
const leastSecret = 16

// readSecrets reads the secret that digests are made with, and earlier ones: one a
// line, the first for what is made now.
func readSecrets(c *config.Config) (now []byte, earlier [][]byte, err error) {
	text, err := readSecret(c, "secret-file", c.SecretFile)
	if err != nil {
		return nil, nil, err
	}
	if !isText(text) { // random bytes as they are: what looks like the end of a line is none
		return text, nil, nil
	}
	for line := range bytes.Lines(text) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		switch {
		case len(line) < leastSecret:
			return nil, nil, c.At(nil, "secret-file", errShortSecret)
		case now == nil:
			now = line
		default:
			earlier = append(earlier, line)
		}
	}
	return now, earlier, nil
}

func isText(b []byte) bool {
	for _, c := range b {
		if (c < ' ' && c != '\t' && c != '\r' && c != '\n') || c > '~' {
			return false
		}
	}
	return true
}

var errShortSecret = errors.New("the secret has fewer than 16 bytes (head -c 32 /dev/urandom | base64 -w 0)")

// readSecret reads the file that a setting names; nil for none.
func readSecret(c *config.Config, setting, file string) ([]byte, error) {
	text, err := SecretOf(file)
	if err != nil {
		return nil, c.At(nil, setting, err)
	}
	return text, nil
}

// SecretOf reads a file with a secret, such as the admin token; nil for none.
func SecretOf(file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file) //nolint:gosec // the operator names it
	if err != nil {
		return nil, fmt.Errorf("the secret: %w", err)
	}
	if text = bytes.TrimSpace(text); len(text) < leastSecret {
		return nil, errShortSecret
	}
	return text, nil
}
