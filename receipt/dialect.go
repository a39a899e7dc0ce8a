package receipt

import (
	"embed"
	"fmt"
	"strconv"
	"strings"
)

// Dialect is how a database spells SQL.
type Dialect string

// The dialects. MySQL is MariaDB's as well.
const (
	PostgreSQL Dialect = "postgresql"
	SQLite     Dialect = "sqlite"
	MySQL      Dialect = "mysql"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Migration is the SQL that makes the table, and does nothing where it is.
func (d Dialect) Migration() string {
	text, err := migrations.ReadFile("migrations/" + string(d) + ".sql")
	if err != nil {
		return ""
	}
	return string(text)
}

// statements are what is asked of a database.
type statements struct{ execute, complete, void, find, clean string }

func (d Dialect) statements() (statements, error) {
	s := statements{
		execute: "INSERT INTO idempotency_receipts (op_scope, op_key, attempt, executed, made) " +
			"VALUES (?, ?, ?, 1, ?) ON CONFLICT DO NOTHING",
		complete: "UPDATE idempotency_receipts SET status = ?, fields = ?, body = ? WHERE attempt = ?",
		void: "INSERT INTO idempotency_receipts (op_scope, op_key, attempt, executed, made) " +
			"VALUES (?, ?, ?, NULL, ?) ON CONFLICT DO NOTHING",
		find: "SELECT executed, status, fields, body FROM idempotency_receipts " +
			"WHERE op_scope = ? AND op_key = ? AND executed = 1 OR attempt = ? ORDER BY executed IS NULL LIMIT 1",
		clean: "DELETE FROM idempotency_receipts WHERE made < ?",
	}
	switch d {
	case SQLite:
		return s, nil
	case PostgreSQL:
		return s.each(numbered), nil
	case MySQL:
		return s.each(ofMySQL).locking(), nil
	}
	return s, fmt.Errorf("%q is no dialect that is known here", string(d))
}

func (s statements) each(spell func(string) string) statements {
	return statements{spell(s.execute), spell(s.complete), spell(s.void), spell(s.find), spell(s.clean)}
}

// locking reads what is committed, not what was when the transaction began: the
// default of MySQL would show a snapshot in which the receipt is not there yet. A
// transaction that was refused then has locks on keys beside its own, until its caller
// has rolled it back.
func (s statements) locking() statements {
	s.find += " LOCK IN SHARE MODE"
	return s
}

// numbered has placeholders as PostgreSQL wants them: $1, $2, ...
func numbered(text string) string {
	var b strings.Builder
	for n, part := range strings.Split(text, "?") {
		if n > 0 {
			b.WriteString("$" + strconv.Itoa(n))
		}
		b.WriteString(part)
	}
	return b.String()
}

// ofMySQL says the same of an insert that meets another row.
func ofMySQL(text string) string {
	if rest, ok := strings.CutSuffix(text, " ON CONFLICT DO NOTHING"); ok {
		// Not ON DUPLICATE KEY UPDATE: with the option clientFoundRows it counts a row that
		// was there already. IGNORE also cuts values that are too long: see fits.
		return "INSERT IGNORE" + strings.TrimPrefix(rest, "INSERT")
	}
	return text
}
