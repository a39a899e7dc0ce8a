package pstore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// errRights is the reason while the role lacks a right.
var errRights = errors.New("the role may not do all that requests need, and docs/postgres.md has the statements that grant it")

// lacking asks which of the rights that requests need this role does not have. Those of the
// sweeper are not among them: without them requests are answered, and sweep says what it lacks.
const lacking = `SELECT current_user, string_agg(privilege || ' on #.' || name, ', ' ORDER BY privilege, name) FROM (
	SELECT privilege, name FROM unnest(ARRAY['record', 'entry']) AS name,
		unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege
	WHERE NOT has_table_privilege('@.' || name, privilege)
	UNION ALL
	SELECT 'EXECUTE', proname FROM pg_proc WHERE pronamespace = to_regnamespace('@')
		AND proname IN ('acquire', 'settle', 'renew', 'purge', 'probe', 'enter', 'clock')
		AND NOT has_function_privilege(oid, 'EXECUTE')
) AS missing`

// checkRights is an error that says what the role lacks. A request whose key it can acquire,
// and whose response it cannot store, is not to be executed.
func checkRights(ctx context.Context, conn *pgconn.PgConn, schema string) error {
	rows, err := exec(ctx, conn, strings.NewReplacer("@", quoted(schema), "#", schema).Replace(lacking))
	switch {
	case err != nil:
		return err
	case len(rows) != 1 || len(rows[0]) != 2:
		return errReply
	case rows[0][1] != nil:
		return fmt.Errorf("%w: %s lacks %s", errRights, rows[0][0], rows[0][1])
	}
	return nil
}
