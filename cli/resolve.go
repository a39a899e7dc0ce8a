package cli

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/idemproxy/idemproxy/admin"
	"github.com/idemproxy/idemproxy/idem"
)

// resolution is what a resolve is asked for.
type resolution struct {
	retry, complete bool
	asked           admin.Change
	file            string
}

func resolveCommand() *cobra.Command {
	var k keyCommand
	var r resolution
	b := bulk{state: idem.Unknown.String()}
	c := &cobra.Command{
		Use: "resolve [KEY]", Short: "End a key whose outcome is unknown, or many",
		Long: "Ends a key that was held because its request may or may not have been executed (on_ambiguous: hold).\n" +
			"Look the operation up in the backend first. --retry frees the key: the next request with it executes.\n" +
			"--complete stores a response: retries get it and nothing executes.\n" +
			"With --all or --file it resolves many keys: --dry-run shows which, and changes nothing.",
		Example: "  idemproxy resolve order-42-charge --retry\n" +
			"  idemproxy resolve order-42-charge --complete --status 201 --header 'Content-Type: application/json' " +
			"--body-file charge.json\n" +
			"  idemproxy resolve --file not-executed.txt --retry --dry-run\n" +
			"  idemproxy resolve --all --older-than 1h --retry --dry-run",
	}
	k.flags(c)
	r.flags(c)
	b.flags(c)
	c.Args = b.args
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := r.read(c); err != nil {
			return err
		}
		if len(args) == 1 && !b.dryRun {
			return k.resolveOne(c, args[0], &r, b.yes)
		}
		all, err := b.keys(c, &k, args)
		if err != nil {
			return err
		}
		a := act{"completed with " + r.gives(), "Complete %s? Retries get " + r.gives() + "."}
		if r.retry {
			a = act{"freed, so that the next requests with them execute", "Free %s? The next request with each of them executes."}
		}
		return b.run(c, &k, all, a, func(one *admin.Record) (string, *admin.Change) {
			asked := r.asked
			asked.Key, asked.Scope, asked.Owner = one.Key, one.Scope, one.Owner
			return "/keys/resolve", &asked
		})
	}
	return c
}

func (r *resolution) flags(c *cobra.Command) {
	c.Flags().BoolVar(&r.retry, "retry", false, "it was not executed: free the key")
	c.Flags().BoolVar(&r.complete, "complete", false, "it was executed: store its response")
	c.Flags().IntVar(&r.asked.Status, "status", 200, "status of that response")
	c.Flags().Var((*fields)(&r.asked.Header), "header", "a field of its header, 'Name: value'; once for each")
	c.Flags().StringVar(&r.asked.Owner, "owner", "", "only if this attempt is held: as inspect and list --json show it")
	c.Flags().StringVar(&r.file, "body-file", "", "file with its body; - for standard input")
	c.MarkFlagsOneRequired("retry", "complete")
	c.MarkFlagsMutuallyExclusive("retry", "complete")
	for _, name := range []string{"status", "header", "body-file"} {
		c.MarkFlagsMutuallyExclusive("retry", name)
	}
}

// read makes what the admin API is asked of the flags.
func (r *resolution) read(c *cobra.Command) (err error) {
	r.asked.Action, r.asked.Confirm = "complete", true
	if r.retry {
		r.asked.Action, r.asked.Status = "retry", 0
	}
	r.asked.Body, err = readBodyFile(r.file, c.InOrStdin())
	return err
}

// gives says what retries will get, so that nobody stores an empty response without a notice.
func (r *resolution) gives() string {
	if len(r.asked.Body) == 0 {
		return fmt.Sprintf("a response %d without a body", r.asked.Status)
	}
	return fmt.Sprintf("a response %d with %d bytes", r.asked.Status, len(r.asked.Body))
}

func (k *keyCommand) resolveOne(c *cobra.Command, arg string, r *resolution, yes bool) (err error) {
	if k.from == "" { // where a proxy was named, there is no question
		question := "Complete " + quoted(arg) + "? Retries get " + r.gives() + "."
		if r.retry {
			question = "Free " + quoted(arg) + "? The next request with it executes."
		}
		if err := k.mayChange(c, question, yes); err != nil {
			return err
		}
	}
	if r.asked.Key, r.asked.Scope, err = k.meant(c.Context(), arg); err != nil {
		return err
	}
	return k.change(c, "/keys/resolve", &r.asked, func(*admin.Changed) string {
		if r.retry {
			return arg + " is resolved: the next request with it executes"
		}
		return arg + " is resolved: retries get " + r.gives()
	})
}

func readBodyFile(file string, stdin io.Reader) ([]byte, error) {
	var body []byte
	var err error
	switch file {
	case "":
		return nil, nil
	case "-":
		body, err = io.ReadAll(stdin)
	default:
		body, err = os.ReadFile(file) //nolint:gosec // the operator names it
	}
	if err != nil {
		return nil, fmt.Errorf("--body-file: %w", err)
	}
	return body, nil
}

func releaseCommand() *cobra.Command {
	var k keyCommand
	b := bulk{state: idem.InProgress.String()}
	c := &cobra.Command{
		Use: "release [KEY]", Short: "Take the lease of a key in progress from whoever has it, or of many",
		Long: "Frees a key that is in progress: the next request with it executes, also if the one under way goes on.\n" +
			"That one finds its lease lost, and its response is not stored. If it ends before the release does, nothing is done.\n" +
			"The count of attempts goes on. With --all or --file it frees many keys: --dry-run shows which, and changes nothing.",
		Example: "  idemproxy release order-42-charge\n  idemproxy release order-42-charge --owner 5f1c09aa\n" +
			"  idemproxy release --all --older-than 1h --dry-run",
	}
	k.flags(c)
	b.flags(c)
	c.Args = b.args
	owner := c.Flags().String("owner", "", "only if this one has it: as inspect and list --json show it")
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 1 && !b.dryRun {
			key, scope, err := k.meant(c.Context(), args[0])
			if err == nil {
				err = k.mayChange(c, "Release "+shownKey(key, scope)+
					"? The next request with it executes, also if the one under way goes on.", b.yes)
			}
			if err != nil {
				return err
			}
			return k.change(c, "/keys/release", &admin.Change{Key: key, Scope: scope, Owner: *owner},
				func(*admin.Changed) string {
					return args[0] + " is free: the next request with it executes, also if the one under way goes on"
				})
		}
		all, err := b.keys(c, &k, args)
		if err != nil {
			return err
		}
		a := act{
			"released, so that the next requests with them execute",
			"Release %s? The next request with each of them executes, also if the one under way goes on.",
		}
		return b.run(c, &k, all, a, func(one *admin.Record) (string, *admin.Change) {
			return "/keys/release", &admin.Change{Key: one.Key, Scope: one.Scope, Owner: one.Owner}
		})
	}
	return c
}
