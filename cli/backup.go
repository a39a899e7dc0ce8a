package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/idemproxy/idemproxy/app"
	"github.com/idemproxy/idemproxy/config"
)

func backupCommand() *cobra.Command {
	var k keyCommand
	var offline string
	c := &cobra.Command{
		Use: "backup FILE", Short: "Write a backup of the embedded store to a new file", Args: cobra.ExactArgs(1),
		Long: "Has a running proxy back its embedded store up, while it serves, and writes that to FILE, which must not exist. FILE\n" +
			"is there, and whole, or not at all. With --offline DIR no proxy is asked: DIR is the store's directory, and none uses it.\n" +
			"The file has keys and responses in it: keep it as you keep the store. See docs/backup.md.",
		Example: "  idemproxy backup idemproxy-2026-11-26.tar\n  idemproxy backup old.tar --offline /var/lib/idemproxy",
	}
	k.flags(c)
	_ = c.Flags().MarkHidden("scope")
	_ = c.Flags().MarkHidden("json")
	c.Flags().StringVar(&offline, "offline", "", "directory of an embedded store that no proxy uses")
	find := c.PreRunE
	c.PreRunE = func(c *cobra.Command, args []string) error {
		if offline != "" {
			return nil
		}
		return find(c, args)
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		from := k.backup
		if offline != "" {
			if _, err := os.Stat(offline); err != nil {
				return failure{fmt.Errorf("--offline: %w", err)}
			}
			cfg := config.Default()
			cfg.Store = "embedded:" + offline
			from = func(ctx context.Context, w io.Writer) error { return app.BackUp(ctx, &cfg, w) }
		}
		m, err := backUp(c.Context(), args[0], from)
		if err != nil {
			return failure{err}
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s: the store as it was at %s, %d files\n", args[0], at(m.MadeAt), len(m.Files))
		return err //nolint:wrapcheck // nothing to add
	}
	return c
}

func at(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// backup has the proxy write one.
func (k *keyCommand) backup(ctx context.Context, w io.Writer) error {
	resp, err := k.request(ctx, http.MethodPost, "/backup", struct{}{})
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("the backup broke off: %w", err)
	}
	return nil
}

// backUp writes a backup to a new file: first under another name, until it was read again
// and found whole.
func backUp(ctx context.Context, name string, from func(context.Context, io.Writer) error) (m app.Backup, err error) {
	if _, err := os.Lstat(name); !errors.Is(err, os.ErrNotExist) {
		return m, fmt.Errorf("%s is there already: name a new file", name)
	}
	part := name + ".part"
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the operator names it
	if err != nil {
		return m, fmt.Errorf("writing the backup: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(part)
		}
	}()
	if err = from(ctx, f); err == nil {
		if _, err = f.Seek(0, io.SeekStart); err == nil {
			m, err = app.CheckBackup(f)
		}
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return m, err
	}
	if err = os.Link(part, name); err == nil { // which overwrites nothing
		err = os.Remove(part)
	}
	if err != nil {
		return m, fmt.Errorf("naming the backup: %w", err)
	}
	return m, nil
}

func restoreCommand() *cobra.Command {
	return &cobra.Command{
		Use: "restore FILE DIR", Short: "Make the directory of an embedded store from a backup", Args: cobra.ExactArgs(2),
		SilenceUsage: true, SilenceErrors: true,
		Long: "Makes the directory of an embedded store from what backup wrote. DIR must not exist, or be empty: nothing is\n" +
			"overwritten. A backup that is damaged, or not whole, is refused. What happened after the backup is not known in DIR:\n" +
			"retries of it execute again. See docs/backup.md before you serve with it.",
		Example: "  idemproxy restore idemproxy-2026-11-26.tar /var/lib/idemproxy",
		RunE: func(c *cobra.Command, args []string) error {
			f, err := os.Open(args[0])
			if err != nil {
				return failure{fmt.Errorf("reading the backup: %w", err)}
			}
			defer func() { _ = f.Close() }()
			m, err := app.RestoreBackup(f, args[1])
			if err != nil {
				return failure{err}
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s has the store as it was at %s (%v ago).\n"+
				"What was executed after that is not known in it: a retry of it executes again, unless the backend keeps receipts.\n"+
				"What was in progress then lapses after its lease. Serve with --store embedded:%s\n",
				args[1], at(m.MadeAt), time.Since(m.MadeAt).Round(time.Second), args[1])
			return err //nolint:wrapcheck // nothing to add
		},
	}
}
