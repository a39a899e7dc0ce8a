// Package seal is what becomes of a response at rest: compressed, encrypted, or
// both. It knows no store; stores call it through idem.Codec.
package seal

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/klauspost/compress/s2"

	"github.com/idemproxy/idemproxy/idem"
)

// Key is an AES-256 key with a name, which stands in what it encrypts.
type Key struct {
	Name   string
	Secret []byte // 32 bytes
}

// Config says what is done to responses. With neither, nothing is.
type Config struct {
	// Keys, if there are any, encrypt: the first is used for what is written,
	// all for what is read, so that keys can be rotated.
	Keys []Key
	// CompressFrom is the size in bytes from which a response is compressed,
	// if that makes it smaller. 0: never.
	CompressFrom int
}

// Codec implements idem.Codec. It is safe for concurrent use.
type Codec struct {
	aeads    map[string]cipher.AEAD
	current  string // name of the key for writing; empty for none
	compress int
}

// Errors of Open. Each fails closed.
var (
	ErrUnknownKey = errors.New("the response is encrypted with a key that is not configured")
	ErrDamaged    = errors.New("the response cannot be decrypted: it was changed, or it belongs to another key")
)

// The envelope, in place of a body: version, flags, length and name of the key,
// nonce, and the response as idem.AppendResponse writes it, compressed or not,
// encrypted or not. What comes before the nonce and the idempotency key's own
// digest are authenticated with it.
const (
	version        = 1
	flagCompressed = 1 << 0
	flagEncrypted  = 1 << 1
)

// New makes a codec.
func New(c Config) (*Codec, error) {
	codec := &Codec{aeads: map[string]cipher.AEAD{}, compress: c.CompressFrom}
	for i, k := range c.Keys {
		if len(k.Secret) != 32 || k.Name == "" || len(k.Name) > 255 {
			return nil, fmt.Errorf("key %q: want a name and 32 bytes", k.Name)
		}
		if codec.aeads[k.Name] != nil {
			return nil, fmt.Errorf("key %q is there twice", k.Name)
		}
		block, err := aes.NewCipher(k.Secret)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", k.Name, err)
		}
		if codec.aeads[k.Name], err = cipher.NewGCM(block); err != nil {
			return nil, fmt.Errorf("key %q: %w", k.Name, err)
		}
		if i == 0 {
			codec.current = k.Name
		}
	}
	return codec, nil
}

// ReadKeys reads a file of keys, one "name:base64" a line; empty lines and those
// that start with # do not count. Its errors do not show what is in the file.
func ReadKeys(file string) ([]Key, error) {
	text, err := os.ReadFile(file) //nolint:gosec // the operator names it
	if err != nil {
		return nil, fmt.Errorf("the key file: %w", err)
	}
	var keys []Key
	lines := bufio.NewScanner(bytes.NewReader(text))
	lines.Buffer(nil, len(text)+1) // the scanner ends at a longer line, as at the end of the file
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, encoded, ok := strings.Cut(line, ":")
		secret, err := base64.StdEncoding.DecodeString(encoded)
		if !ok || err != nil || len(secret) != 32 {
			return nil, fmt.Errorf("%s:%d: want NAME:BASE64, of 32 random bytes (head -c 32 /dev/urandom | base64)", file, n)
		}
		keys = append(keys, Key{Name: name, Secret: secret})
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s: there is no key in it", file)
	}
	return keys, nil
}

// Seal implements idem.Codec. The status stays readable.
func (c *Codec) Seal(k idem.Key, r *idem.Response) (*idem.Response, error) {
	if c.current == "" && (c.compress == 0 || r.Size() < c.compress) {
		return r, nil
	}
	plain := idem.AppendResponse(make([]byte, 0, r.Size()), r)
	head := []byte{version, 0}
	if c.compress > 0 && len(plain) >= c.compress {
		if small := s2.Encode(nil, plain); len(small) < len(plain) {
			plain, head[1] = small, head[1]|flagCompressed
		}
	}
	if c.current == "" && head[1] == 0 {
		return r, nil
	}
	sealed := &idem.Response{Status: r.Status, Sealed: true, BodyOmitted: r.BodyOmitted}
	if c.current == "" {
		sealed.Body = append(head, plain...)
		return sealed, nil
	}
	head[1] |= flagEncrypted
	head = append(append(head, byte(len(c.current)&0xff)), c.current...)
	aead := c.aeads[c.current]
	out := make([]byte, len(head)+aead.NonceSize(), len(head)+aead.NonceSize()+len(plain)+aead.Overhead())
	nonce := out[copy(out, head):]
	_, _ = rand.Read(nonce) // never fails: crypto/rand crashes the program instead
	sealed.Body = aead.Seal(out, nonce, plain, associated(head, k))
	return sealed, nil
}

// associated ties what is encrypted to how and for which key.
func associated(head []byte, k idem.Key) []byte {
	id := k.ID()
	return append(append(make([]byte, 0, len(head)+len(id)), head...), id[:]...)
}

// Open implements idem.Codec.
func (c *Codec) Open(k idem.Key, r *idem.Response) (*idem.Response, error) {
	b := r.Body
	if len(b) < 2 || b[0] != version || b[1]&^(flagCompressed|flagEncrypted) != 0 {
		return nil, fmt.Errorf("%w: its envelope is not one of ours", idem.ErrVersion)
	}
	flags, plain := b[1], b[2:]
	var err error
	if flags&flagEncrypted != 0 {
		if plain, err = c.decrypt(b, k); err != nil {
			return nil, err
		}
	}
	if flags&flagCompressed != 0 {
		if n, err := s2.DecodedLen(plain); err != nil || n > maxPlain {
			return nil, fmt.Errorf("%w: it does not decompress", idem.ErrCorrupt)
		}
		if plain, err = s2.Decode(nil, plain); err != nil {
			return nil, fmt.Errorf("%w: it does not decompress: %w", idem.ErrCorrupt, err)
		}
	}
	return idem.DecodeResponse(plain)
}

// maxPlain bounds what a damaged record can make us allocate.
const maxPlain = 1 << 30

func (c *Codec) decrypt(b []byte, k idem.Key) ([]byte, error) {
	nameEnd := 3
	if len(b) > 2 {
		nameEnd += int(b[2])
	}
	if len(b) < nameEnd {
		return nil, fmt.Errorf("%w: it is cut short", idem.ErrCorrupt)
	}
	name := string(b[3:nameEnd])
	aead := c.aeads[name]
	if aead == nil {
		return nil, fmt.Errorf("%w: %q", ErrUnknownKey, name)
	}
	rest := b[nameEnd:]
	if len(rest) < aead.NonceSize() {
		return nil, fmt.Errorf("%w: it is cut short", idem.ErrCorrupt)
	}
	plain, err := aead.Open(nil, rest[:aead.NonceSize()], rest[aead.NonceSize():], associated(b[:nameEnd], k))
	if err != nil {
		return nil, ErrDamaged
	}
	return plain, nil
}
