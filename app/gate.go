package app

import (
	"context"

	"github.com/idemproxy/idemproxy/estore"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/pstore"
	"github.com/idemproxy/idemproxy/rstore"
)

// gatedStore is a store in which nothing is acquired while admit says no. It has all
// that the store itself has, whatever that is.
type gatedStore interface {
	idem.Store
	idem.Inspector
	idem.Registry
	gate(admit func() error)
}

// askedStore is what requests and operators need of a store.
type askedStore interface {
	idem.Store
	idem.Inspector
}

type gatedRedis struct {
	*rstore.Store
	admit func() error
}

func (g *gatedRedis) gate(admit func() error) { g.admit = admit }

// Acquire implements idem.Store.
func (g *gatedRedis) Acquire(ctx context.Context, c idem.Claim) (idem.Outcome, error) {
	if err := g.admit(); err != nil {
		return idem.Outcome{}, err
	}
	return g.Store.Acquire(ctx, c)
}

// Ping implements idem.Store.
func (g *gatedRedis) Ping(ctx context.Context) error {
	if err := g.Store.Ping(ctx); err != nil {
		return err
	}
	return g.admit()
}

type gatedPostgres struct {
	*pstore.Store
	admit func() error
}

func (g *gatedPostgres) gate(admit func() error) { g.admit = admit }

// Acquire implements idem.Store.
func (g *gatedPostgres) Acquire(ctx context.Context, c idem.Claim) (idem.Outcome, error) {
	if err := g.admit(); err != nil {
		return idem.Outcome{}, err
	}
	return g.Store.Acquire(ctx, c)
}

// Ping implements idem.Store.
func (g *gatedPostgres) Ping(ctx context.Context) error {
	if err := g.Store.Ping(ctx); err != nil {
		return err
	}
	return g.admit()
}

type gatedEmbedded struct {
	*estore.Store
	admit func() error
}

func (g *gatedEmbedded) gate(admit func() error) { g.admit = admit }

// Acquire implements idem.Store.
func (g *gatedEmbedded) Acquire(ctx context.Context, c idem.Claim) (idem.Outcome, error) {
	if err := g.admit(); err != nil {
		return idem.Outcome{}, err
	}
	return g.Store.Acquire(ctx, c)
}

// Ping implements idem.Store.
func (g *gatedEmbedded) Ping(ctx context.Context) error {
	if err := g.Store.Ping(ctx); err != nil {
		return err
	}
	return g.admit()
}
