package pstore

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// finding is a setting of the server that weakens what this store promises.
type finding struct{ setting, value, means string }

// lookEvery is how often the settings are looked at: a reload of the server changes them, and
// no connection is lost.
const lookEvery = time.Minute

// looked is what attend, and the hello that it runs, know of the server's settings.
type looked struct {
	server string             // which one it was; empty: none
	at     time.Time          // when
	warned map[string]finding // by their settings: those that were found then
}

const settingsSQL = `SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', ` +
	`'synchronous_commit', 'synchronous_standby_names', 'default_transaction_isolation', 'autovacuum', 'track_counts') ` +
	`UNION ALL SELECT 'standbys', count(*)::text FROM pg_stat_replication`

// check asks the server how it keeps what it acknowledged, and warns.
func (s *Store) check(ctx context.Context, conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	s.looked.at = time.Now()
	rows, err := exec(ctx, conn.PgConn(), settingsSQL)
	if err != nil {
		s.log.Info().Str("event", "store_unchecked").Str("server", addressOf(conn)).Err(s.unsaid(err)).
			Msg("the server does not say how it keeps records; see docs/postgres.md for what it should do")
		return
	}
	s.warn(addressOf(conn), rows)
}

// lookAgain is check, when it is time for that, by a connection of the pool. An error is for
// others to say.
func (s *Store) lookAgain(ctx context.Context, server string) {
	if time.Since(s.looked.at) < s.config.lookEvery {
		return
	}
	s.looked.at = time.Now()
	ctx, cancel := context.WithTimeout(ctx, min(s.timeout, helloEvery)) // it holds up the next hello
	defer cancel()
	if rows, err := s.once(ctx, settingsSQL, newArgs(0)); err == nil {
		s.warn(server, rows)
	}
}

// warn warns of settings, unless it was so when they were looked at before.
func (s *Store) warn(server string, rows [][][]byte) {
	settings, found := map[string]string{}, map[string]finding{}
	for _, row := range rows {
		settings[string(row[0])] = string(row[1])
	}
	for _, f := range findings(settings) {
		if found[f.setting] = f; s.looked.warned[f.setting] == f {
			continue
		}
		s.log.Warn().Str("event", "store_setting").Str("server", server).Str("setting", f.setting).Str("value", f.value).Msg(f.means)
	}
	s.looked.warned = found
}

// findings are what is amiss with a server's settings, as they are for this role.
func findings(settings map[string]string) (all []finding) {
	add := func(setting string, means string) { all = append(all, finding{setting, settings[setting], means}) }
	if settings["fsync"] == "off" {
		add("fsync", "a crash of the server's machine can destroy the database: set it to on")
	}
	if settings["full_page_writes"] == "off" {
		add("full_page_writes", "a crash of the server's machine can damage pages of the database: set it to on")
	}
	names, commit := settings["synchronous_standby_names"], settings["synchronous_commit"]
	switch {
	case commit == "off":
		add("synchronous_commit", "a crash of the server loses the last leases and responses that it acknowledged, and requests "+
			"then execute twice: set it to on")
	case names != "" && commit == "local":
		add("synchronous_commit", "a failover loses what only the primary has, and requests then execute twice: set it to on")
	case names != "" && commit == "remote_write":
		add("synchronous_commit", "a crash of both machines loses what the standby had not written to its disk: set it to on")
	case names == "" && !slices.Contains([]string{"", "0"}, settings["standbys"]):
		add("synchronous_standby_names", "a failover may promote a standby that lacks what was acknowledged, and requests then "+
			"execute twice: name the standbys")
	}
	if level := settings["default_transaction_isolation"]; level != "" && level != "read committed" {
		add("default_transaction_isolation", "requests with one key that meet are asked again, which takes longer: set it to read "+
			"committed for this role")
	}
	if settings["autovacuum"] == "off" || settings["track_counts"] == "off" {
		name := "autovacuum"
		if settings[name] != "off" {
			name = "track_counts"
		}
		add(name, "the space of expired records is not used again, and the tables grow: set it to on")
	}
	return all
}
