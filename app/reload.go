package app

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/internal/failpoint"
)

// Reload has the proxy go on with other settings: requests from now on are
// treated by them, those under way end as they began. An error changes nothing;
// one of the settings that need a restart is such an error.
func (a *App) Reload(c config.Config) error {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	return a.reload(c)
}

// reload is called with reloading held.
func (a *App) reload(c config.Config) error {
	if err := c.Validate(); err != nil {
		return err
	}
	if changed := a.config.Fixed(&c); len(changed) > 0 {
		return c.At(nil, changed[0], fmt.Errorf("a change needs a restart (%s); nothing was changed", strings.Join(changed, ", ")))
	}
	pc, plan, err := a.proxyConfig(&c)
	if err != nil {
		return err
	}
	use := func() error {
		if err := failpoint.Fail("plan-entered"); err != nil {
			return err
		}
		return a.proxy.Reload(pc)
	}
	if err := a.names.change(plan, c.AcceptOrphans, use); err != nil {
		return fmt.Errorf("the proxy: %w", err)
	}
	a.trusted.Store(&pc.TrustedProxies)
	a.config = c
	a.exportKnown(&c)
	return nil
}

// remake has the rules made anew of the settings that are in force: what the store
// says of its records has changed.
func (a *App) remake() {
	a.reloading.Lock() // until they are in force again: a reload that came between would be undone
	err := a.reload(a.config)
	a.reloading.Unlock()
	if err != nil {
		a.log.Error().Str("event", "reload_failed").Err(err).Msg("the rules stay as they were")
		return
	}
	a.log.Info().Str("event", "reloaded").Msg("the store says which records of an earlier release there may be")
}

// LoadFunc reads the settings from where they came from.
type LoadFunc func() (config.Config, error)

// HangUps has SIGHUP not end the process from now on. Call it before anything that takes
// time: who manages the process may have it reload as soon as it runs. One signal waits
// for Follow; stop is due at the end.
func HangUps() (arrive <-chan os.Signal, stop func()) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	return hup, func() { signal.Stop(hup) }
}

// Follow reloads on SIGHUP, and when a file changes that the settings are from,
// until ctx ends. file is the one that load reads; empty: none. hangUp is where a SIGHUP
// arrives: see HangUps.
func (a *App) Follow(ctx context.Context, load LoadFunc, file string, hangUp <-chan os.Signal) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	seen := a.digest(file)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangUp:
		case <-tick.C:
			if a.digest(file) == seen {
				continue
			}
		}
		seen = a.digest(file)
		a.reloadFrom(load)
	}
}

func (a *App) reloadFrom(load LoadFunc) {
	c, err := load()
	if err == nil {
		err = a.Reload(c)
	}
	if err != nil {
		a.metrics.Reloads.WithLabelValues(reloadFailed).Inc()
		a.metrics.ReloadDone.Set(0)
		a.amiss.begin("reload_failed", err.Error())
		a.log.Error().Str("event", "reload_failed").Err(err).Msg("the settings stay as they were")
		return
	}
	a.metrics.Reloads.WithLabelValues(reloadDone).Inc()
	a.metrics.ReloadDone.Set(1)
	a.amiss.over("reload_failed")
	a.log.Info().Str("event", "reloaded").Int("routes", len(c.Routes)).Int("upstreams", len(c.Upstreams)).
		Msg("requests from now on are treated by the new settings")
	a.warnOf(&c)
}

// digest is of the contents of all files that the settings are from: the time
// stamps of what a mounted directory links to need not change.
func (a *App) digest(file string) (sum [sha256.Size]byte) {
	c := a.settings()
	files := c.Files()
	if file != "" {
		files = append(files, file)
	}
	h := sha256.New()
	for _, f := range files {
		text, err := os.ReadFile(f) //nolint:gosec // the operator names it
		if errors.Is(err, os.ErrNotExist) {
			text = nil // being replaced, perhaps
		}
		_, _ = h.Write(append(text, 0))
	}
	return [sha256.Size]byte(h.Sum(sum[:0]))
}
