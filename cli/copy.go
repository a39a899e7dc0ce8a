package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/idemproxy/idemproxy/app"
	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/internal/redact"
)

func copyCommand() *cobra.Command {
	cfg := config.Default()
	c := &cobra.Command{
		Use: "copy FROM TO", Short: "Copy all records from one store to another, empty one", Args: cobra.ExactArgs(2),
		SilenceUsage: true, SilenceErrors: true,
		Long: "Copies what retries need: responses, held keys, and which keys are known, each for as long as it has left. FROM and\n" +
			"TO are as --store has them: embedded:DIR, redis://... or postgres://... All else (namespace, schema, encryption keys,\n" +
			"certificates) is read from the settings. No proxy may serve with either: it is refused while a key is in progress, and it\n" +
			"fails if FROM has changed meanwhile. --nobody-serves says that you have made sure. A FROM that no proxy has served with\n" +
			"is refused. See docs/backup.md.",
		Example: "  idemproxy copy embedded:/var/lib/idemproxy redis://127.0.0.1:6379/0 --nobody-serves",
	}
	load := addSettings(c, &cfg).load
	sure := c.Flags().Bool("nobody-serves", false, "no proxy serves with either store")
	c.RunE = func(c *cobra.Command, args []string) error {
		if _, err := load(); err != nil {
			return err
		}
		if !*sure {
			return fmt.Errorf("a proxy that serves from %s meanwhile would lose what it does: stop all of them, and say --nobody-serves",
				redact.URL(args[0]))
		}
		done, err := app.Copy(c.Context(), &cfg, args[0], args[1])
		if err != nil {
			return failure{err}
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%d records: %d with a response, %d held, %d that are only remembered; "+
			"%d entries of the registry\n",
			done.Completed+done.Held+done.Expired, done.Completed, done.Held, done.Expired, done.Entries)
		return err //nolint:wrapcheck // nothing to add
	}
	return c
}
