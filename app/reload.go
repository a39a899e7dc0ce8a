package app

import (
	"bytes"
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
	var seen [sha256.Size]byte
	look := func() [sha256.Size]byte { return a.digest(file, seen) }
	seen = look()
	filled := !isBlank(file)
	for {
		asked := false
		select {
		case <-ctx.Done():
			return
		case <-hangUp:
			asked = true
		case <-tick.C:
			if look() == seen {
				continue
			}
		}
		now := settled(look, func() { pause(ctx, unchangedFor) })
		if ctx.Err() != nil {
			return
		}
		if now == seen && !asked {
			continue // it is as it was, after all
		}
		seen = now
		if filled && isBlank(file) {
			a.reloaded(config.Config{}, fmt.Errorf("%s: %w", file, errBlank))
			continue
		}
		c, err := load()
		a.reloaded(c, err)
		filled = filled || !isBlank(file)
	}
}

// errBlank: every setting at its default is hardly what was meant, and may be what is safe
// least: on_ambiguous, for example.
var errBlank = errors.New("the file is empty now: perhaps it is being written, or its disk is full")

// isBlank says that a file has nothing in it. One that cannot be read is not blank: to load it says why.
func isBlank(file string) bool {
	text, err := os.ReadFile(file) //nolint:gosec // the operator names it
	return err == nil && len(bytes.TrimSpace(text)) == 0
}

const (
	// unchangedFor is how long files must stay as they are before they are loaded, and mostLooks
	// how often that is awaited.
	unchangedFor = 100 * time.Millisecond
	mostLooks    = 50
)

// settled is the digest of files that nobody is writing. One that is being written has a part
// of its text, which may be settings without mistake: those of its end would be at their defaults.
func settled(digest func() [sha256.Size]byte, pause func()) [sha256.Size]byte {
	was := digest()
	for range mostLooks {
		pause()
		now := digest()
		if now == was {
			break
		}
		was = now
	}
	return was
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// reloaded reloads what was read, unless that failed, and reports what came of it.
func (a *App) reloaded(c config.Config, err error) {
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
// stamps of what a mounted directory links to need not change. It is as seen if no file can be
// opened for now.
func (a *App) digest(file string, seen [sha256.Size]byte) (sum [sha256.Size]byte) {
	c := a.settings()
	files := c.Files()
	if file != "" {
		files = append(files, file)
	}
	h := sha256.New()
	for _, f := range files {
		text, err := os.ReadFile(f) //nolint:gosec // the operator names it
		switch {
		case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
			return seen // which says nothing of the file
		case errors.Is(err, os.ErrNotExist):
			text = nil // being replaced, perhaps
		}
		_, _ = h.Write(append(text, 0))
	}
	return [sha256.Size]byte(h.Sum(sum[:0]))
}
