package app

import (
	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/operation"
	"github.com/idemproxy/idemproxy/proxy"
)

// Explained is what a proxy makes of a request: see proxy.Explain.
type Explained = proxy.Explained

// Hashed is a part of a request that its fingerprint is made of.
type Hashed = operation.Hashed

// Explain says of each of the requests in a text what a proxy with these settings would
// make of it.
func Explain(c *config.Config, text []byte) ([]Explained, error) {
	pc, err := check(c)
	if err != nil {
		return nil, err
	}
	if pc.Secret, pc.EarlierSecrets, err = readSecrets(c); err != nil {
		return nil, err
	}
	return proxy.Explain(&pc, text)
}

// Difference is where two JSON texts first differ: see operation.Difference.
func Difference(a, b string) (at string, differ bool) { return operation.Difference(a, b) }
