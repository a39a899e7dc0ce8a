package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/idemproxy/idemproxy/app"
	"github.com/idemproxy/idemproxy/config"
)

// migrateFor bounds a migration, which may wait for one that another process does.
const migrateFor = 5 * time.Minute

func migrateCommand(cfg *config.Config) *cobra.Command {
	c := &cobra.Command{
		Use: "migrate", Short: "Make a PostgreSQL store's tables, or bring them up to date", Args: cobra.NoArgs,
		Long: "Makes the tables and functions of a PostgreSQL store in its schema (--store-schema), or brings them up to date, and\n" +
			"ends. serve does that too, unless --store-migrate=false; with that, the role that serves needs no right to create\n" +
			"anything: docs/postgres.md has the rights that it needs. It may be repeated.",
		Example:      "  idemproxy migrate --store postgres://owner@127.0.0.1/payments",
		SilenceUsage: true, SilenceErrors: true,
	}
	load := addSettings(c, cfg).load
	c.RunE = func(c *cobra.Command, _ []string) error {
		if _, err := load(); err != nil {
			return err
		}
		if err := app.Check(cfg); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(c.Context(), migrateFor)
		defer cancel()
		before, now, err := app.Migrate(ctx, cfg)
		switch {
		case err != nil && !cfg.IsPostgres():
			return err
		case err != nil:
			return failure{err}
		case before == now:
			_, err = fmt.Fprintf(c.OutOrStdout(), "the schema %s is version %d already\n", cfg.StoreSchema, now)
		case before == 0:
			_, err = fmt.Fprintf(c.OutOrStdout(), "the schema %s was made: version %d\n", cfg.StoreSchema, now)
		default:
			_, err = fmt.Fprintf(c.OutOrStdout(), "the schema %s was version %d, and is version %d\n", cfg.StoreSchema, before, now)
		}
		return err //nolint:wrapcheck // nothing to add
	}
	return c
}
