package app

import (
	"time"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy"
)

// LookAtCertificates does now what happens every few seconds.
func (a *App) LookAtCertificates() { a.certificates.look() }

// Names is what keeps records from being lost by settings.
type Names = names

// NewNames is newNames.
func NewNames(store namesStore, log zerolog.Logger) *Names {
	return newNames(store, log)
}

// Start is start.
func (n *names) Start(plan *proxy.Plan, accept bool) error { return n.start(plan, accept) }

// Settle does now what is done every second while the store cannot be asked.
func (n *names) Settle() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.settle()
}

// Emptied is emptied.
func (n *names) Emptied() (bool, error) { return n.emptied() }

// Change is change.
func (n *names) Change(plan *proxy.Plan, accept bool, use func() error) error {
	return n.change(plan, accept, use)
}

// Admit is admit, Legacy is legacy, Recipe and Unread are what the proxy asks.
func (n *names) Admit() error                         { return n.admit() }
func (n *names) Legacy(keep time.Duration) bool       { return n.legacy(keep) }
func (n *names) Recipe(id idem.Recipe) (string, bool) { return n.texts.Get(id) }
func (n *names) Unread(id idem.Recipe) bool           { return n.texts.Unread(id) }

// OtherFiles is otherFiles.
const OtherFiles = otherFiles

// FilesFor is filesFor.
func FilesFor(c *config.Config) uint64 { return filesFor(c) }

// MostClients is mostClients.
func MostClients(c *config.Config, limit uint64) int { return mostClients(c, limit) }

// Remake is remake.
func (a *App) Remake() { a.remake() }
