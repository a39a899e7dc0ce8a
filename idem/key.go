package idem

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// MaxKeyLen is the longest key accepted, in bytes.
const MaxKeyLen = 255

// Errors of [ParseKey].
var (
	ErrKeyEmpty   = errors.New("the key is empty")
	ErrKeyTooLong = fmt.Errorf("the key is longer than %d characters", MaxKeyLen)
	ErrKeyChars   = errors.New("the key has a character outside printable ASCII (0x20 to 0x7e)")
)

// Key names one operation: the client's value, within a scope that the operator
// chose (a tenant, say; empty for none). Two keys are the same operation if and
// only if they are ==. Example: value "order-42-charge" in scope "acct_7".
type Key struct {
	scope, value string
}

// ParseKey accepts 1 to [MaxKeyLen] characters of printable ASCII, space
// included. Nothing is trimmed, folded or decoded, so that no two spellings
// become one key by accident. The key refers to value's bytes: see [Key.Clone].
func ParseKey(value string) (Key, error) {
	switch {
	case value == "":
		return Key{}, ErrKeyEmpty
	case len(value) > MaxKeyLen:
		return Key{}, ErrKeyTooLong
	}
	for i := range len(value) {
		if value[i] < 0x20 || value[i] > 0x7e {
			return Key{}, ErrKeyChars
		}
	}
	return Key{value: value}, nil
}

// Clone is the same key with bytes of its own: for who keeps a key longer than
// the request that it was read from.
func (k Key) Clone() Key { return Key{scope: strings.Clone(k.scope), value: strings.Clone(k.value)} }

// InScope is the same value in another scope.
func (k Key) InScope(scope string) Key { return Key{scope: scope, value: k.value} }

// Value is what the client sent. Do not log it: see [Key.String].
func (k Key) Value() string { return k.value }

// Scope is the partition of the key space that the key lives in.
func (k Key) Scope() string { return k.scope }

// ID is a 128-bit digest of scope and value, the same in every process. Stores
// build their names from it, so that no client can place its key (in a Redis
// Cluster slot, say) by choosing characters.
func (k Key) ID() [16]byte {
	var buf [8 + 2*MaxKeyLen]byte
	b := binary.BigEndian.AppendUint64(buf[:0], uint64(len(k.scope)))
	b = append(b, k.scope...)
	b = append(b, k.value...)
	sum := sha256.Sum256(b)
	return [16]byte(sum[:16])
}

// String is a short digest that lets an operator match log lines of one key
// without the log giving the key away. Example: "key:9f86d081884c".
func (k Key) String() string {
	id := k.ID()
	return digestPrefix + hex.EncodeToString(id[:digestSize])
}

const (
	digestPrefix = "key:"
	digestSize   = 6 // bytes of the ID
)

// ParseDigest reads what [Key.String] writes, with or without the word before the digits.
func ParseDigest(text string) ([]byte, error) {
	b, err := hex.DecodeString(strings.TrimPrefix(strings.ToLower(text), digestPrefix))
	if err != nil || len(b) != digestSize {
		return nil, fmt.Errorf("the digest %q: want %s and %d hexadecimal digits", text, digestPrefix, 2*digestSize)
	}
	return b, nil
}

// Owner is the token of one attempt at a key: 128 random bits, made anew for
// each, or 96 and the request's [Hints]. Whoever shows it may renew, complete, release or hold; nobody else.
type Owner [16]byte

// NewOwner draws a token from the system's random source.
func NewOwner() Owner {
	var o Owner
	_, _ = rand.Read(o[:]) // never fails: crypto/rand crashes the program instead
	return o
}

// Fingerprint is the first half of a SHA-256 over what must not change between
// two uses of a key (method, target and body by default). Half of it is enough:
// to meet a given fingerprint takes 2^128 tries, and who makes two payloads of
// his own meet has mixed up nobody's key but his own.
type Fingerprint [16]byte

// Binding is the first half of a SHA-256 over who sent the request (its
// credentials). The zero value stands for "no identity".
type Binding [16]byte

// Recipe names how the fingerprint and the binding of a record were made: what
// went into them, in which form. Hashes made by two recipes say nothing about
// each other, so a record is only ever compared by its own.
type Recipe uint32

// LegacyRecipe is that of records of layout 1, which do not name one.
const LegacyRecipe Recipe = 0
