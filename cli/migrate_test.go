package cli_test

import (
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/internal/dbtest"
)

func TestMigrate(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	store := "postgres://postgres:hunter2@" + server.Addr + "/postgres"
	// Where no proxy has served there is nothing to copy, and nothing is made: see what is made next.
	code, out := command(t, "copy", store, "embedded:"+t.TempDir(), "--nobody-serves")
	if code != 1 || !strings.Contains(out, "no proxy has ever served with it") || strings.Contains(out, "hunter2") {
		t.Errorf("a copy of nothing: %d %s", code, out)
	}
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{0, "the schema idemproxy was made: version 1", []string{"--store", store}},
		{0, "the schema idemproxy is version 1 already", []string{"--store", store}},
		{0, "the schema other was made: version 1", []string{"--store", store, "--store-schema", "other"}},
		{2, "--store: only a PostgreSQL store has tables to be made", nil},
		{2, "--store-schema: \"No\" cannot be used: want a name", []string{"--store", store, "--store-schema", "No"}},
		{2, "--namespace: it is for Redis stores", []string{"--store", store, "--namespace", "mine"}},
		{2, "--wait-replicas: it is for Redis stores", []string{"--store", store, "--wait-replicas", "1"}},
		{2, "--store: the PostgreSQL URL", []string{"--store", store + "?sslmode=nonsense"}},
		{1, "connecting", []string{"--store", "postgres://postgres:hunter2@127.0.0.1:1/postgres"}},
	} {
		code, out := command(t, append([]string{"migrate"}, c.args...)...)
		if code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("migrate %q: %d, %s, want %d, %s", c.args, code, out, c.code, c.want)
		}
		if strings.Contains(out, "hunter2") {
			t.Errorf("the password is shown: %s", out)
		}
	}
	if n := server.Do("SELECT count(*) FROM pg_namespace WHERE nspname IN ('idemproxy', 'other')"); n != "2" {
		t.Errorf("%s of 2 schemas were made", n)
	}
}
