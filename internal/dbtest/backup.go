package dbtest

import (
	"path/filepath"
	"testing"
)

// Backup keeps a schema as it is now, by pg_dump. restore makes it anew so, in one transaction:
// with tables and functions that are others than those that it replaces.
func (p *Postgres) Backup(tb testing.TB, schema string) (restore func()) {
	tb.Helper()
	file, url := filepath.Join(p.dir, schema+".sql"), p.URL("postgres")
	run(tb, p.dir, p.as, filepath.Join(p.bin, "pg_dump"), "--schema", schema, "--clean", "--file", file, url)
	return func() {
		tb.Helper()
		run(tb, p.dir, p.as, filepath.Join(p.bin, "psql"), "--quiet", "--no-psqlrc", "--output", "/dev/null",
			"--set", "ON_ERROR_STOP=1", "--single-transaction", "--file", file, url)
	}
}
