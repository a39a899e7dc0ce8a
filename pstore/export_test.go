package pstore

import (
	"context"
	"time"
)

// SchemaSQL makes a schema's tables and functions.
func SchemaSQL(schema string) string { return schemaSQL(schema) }

// Heard says whether the store would answer from memory now.
func (s *Store) Heard() bool { return int64(time.Since(s.cache.start)) < s.cache.heard.Load() }

// Leash is for how long after it was tried last the way of notifications is taken
// to be open.
func (s *Store) Leash() time.Duration { return s.leash() }

// SweepOnce sweeps the next pages.
func (s *Store) SweepOnce(ctx context.Context, pages int64, pause, rest time.Duration) (gone int64, whole bool, err error) {
	return s.sweepOnce(ctx, pages, pause, rest)
}

// ForgetClock has the store not know what the server's clock shows.
func (s *Store) ForgetClock() { s.clock.forget() }

// Findings are what is amiss with a server's settings: the settings' names.
func Findings(settings map[string]string) (names []string) {
	for _, f := range findings(settings) {
		names = append(names, f.setting)
	}
	return names
}

// LookingEvery is c with a store that looks at the server's settings so often.
func LookingEvery(every time.Duration, c Config) Config {
	c.lookEvery = every
	return c
}

// Deafen ends the answers from memory, until notifications are heard anew.
func (s *Store) Deafen() {
	s.close()
	s.background.Wait()
	s.cache.deaf()
}
