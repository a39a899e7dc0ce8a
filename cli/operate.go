package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/idemproxy/idemproxy/admin"
	"github.com/idemproxy/idemproxy/idem"
)

func listCommand() *cobra.Command {
	var k keyCommand
	c := &cobra.Command{
		Use: "list", Short: "List the keys of the whole store, the oldest first", Args: cobra.NoArgs,
		Long: "Lists keys, of all proxies that share the store. It reads every record that there is. What is unknown is held until\n" +
			"it is resolved; of what is expired the response is not kept any more, and retries get 410.",
		Example: "  idemproxy list --state unknown\n  idemproxy list --state in-progress --json",
	}
	k.flags(c)
	state := c.Flags().String("state", "unknown", "in-progress, unknown, completed or expired; empty for all")
	limit := c.Flags().Int("limit", 100, "most keys to list")
	after := c.Flags().String("after", "", "go on after the last of an earlier listing, which says how")
	c.RunE = func(c *cobra.Command, _ []string) error {
		query := url.Values{"state": {*state}, "limit": {strconv.Itoa(*limit)}}
		if c.Flags().Changed("scope") {
			query.Set("scope", k.scope())
		}
		if *after != "" {
			query.Set("after", *after)
		}
		text, err := k.ask(c.Context(), http.MethodGet, "/keys/list?"+query.Encode(), nil)
		if err != nil {
			return err
		}
		var l admin.Listing
		if err := json.Unmarshal(text, &l); err != nil {
			return failure{fmt.Errorf("the proxy's answer: %w", err)}
		}
		if k.asJSON {
			if _, err = c.OutOrStdout().Write(text); err != nil {
				return err //nolint:wrapcheck // nothing to add
			}
			return unread(&l)
		}
		if len(l.Keys) == 0 && *state != "" {
			_, _ = fmt.Fprintf(c.ErrOrStderr(), "no key is %s; --state '' lists the keys of every state\n", *state)
		}
		if err := printListing(c.OutOrStdout(), &l); err != nil {
			return err
		}
		return unread(&l)
	}
	return c
}

// unread is the error of a listing that lacks records.
func unread(l *admin.Listing) error {
	if l.Unread == "" {
		return nil
	}
	return failure{errors.New(l.Unread)}
}

func printListing(w io.Writer, l *admin.Listing) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "STATE\tAGE\tATTEMPT\tLEASE\tKNOWN FOR\tIN THE LOG\tKEY AND SCOPE")
	for i := range l.Keys {
		r := &l.Keys[i]
		lease, known := "-", "ever"
		if r.ExpiresInMS > 0 {
			known = ms(r.ExpiresInMS).Round(time.Second).String()
		}
		if r.State == idem.InProgress.String() {
			lease = ms(r.LeaseMS).String()
		}
		_, _ = fmt.Fprintf(t, "%s\t%v\t%d\t%s\t%s\t%s\t%s\n",
			r.State, ms(r.AgeMS).Round(time.Second), r.Attempt, lease, known, r.Digest, name(r))
	}
	if err := t.Flush(); err != nil || !l.More {
		return err //nolint:wrapcheck // nothing to add
	}
	_, err := fmt.Fprintf(w, "and more: --after %s\n", l.Next)
	return err //nolint:wrapcheck // nothing to add
}

func purgeCommand() *cobra.Command {
	var k keyCommand
	c := &cobra.Command{
		Use: "purge [KEY]", Short: "Forget a key, or every key of a scope", Args: cobra.MaximumNArgs(1),
		Long: "Forgets a key, whatever its state: the next request with it is executed again. A request that is under way goes on,\n" +
			"and its response is not stored. Without a key, with --scope, every key of that scope, after asking for confirmation.",
		Example: "  idemproxy purge order-42-charge\n  idemproxy purge --scope header:x-account-id=acct_7 --yes",
	}
	k.flags(c)
	yes := c.Flags().Bool("yes", false, "do not ask")
	c.RunE = func(c *cobra.Command, args []string) error {
		if len(args) == 0 && k.scope() == "" {
			return errors.New("want a key, or --scope")
		}
		asked := admin.Change{Scope: k.scope()}
		question := "Forget every key of " + shownScope(k.scope()) + "? Retries with them will be executed again."
		done := func(did *admin.Changed) string {
			return fmt.Sprintf("every key of %s is forgotten: there were %d", shownScope(k.scope()), did.Keys)
		}
		if len(args) == 1 {
			var err error
			if asked.Key, asked.Scope, err = k.meant(c.Context(), args[0]); err != nil {
				return err
			}
			question = "Forget " + shownKey(asked.Key, asked.Scope) +
				"? The next request with it executes again, also if one is under way."
			done = func(*admin.Changed) string {
				return args[0] + " is forgotten: the next request with it executes again, also if one is under way"
			}
		} else if !*yes && !isPerson(c.InOrStdin()) {
			return failure{errors.New("every key of a scope: nothing was done without --yes")}
		}
		if err := k.mayChange(c, question, *yes); err != nil {
			return err
		}
		return k.change(c, "/keys/purge", &asked, done)
	}
	return c
}

// agreed asks a person.
func agreed(c *cobra.Command, question string) bool {
	_, _ = fmt.Fprint(c.ErrOrStderr(), question+" [y/N] ")
	line, _ := bufio.NewReader(c.InOrStdin()).ReadString('\n')
	return strings.EqualFold(strings.TrimSpace(line), "y")
}

// change asks for a change that was confirmed by typing the command.
func (k *keyCommand) change(c *cobra.Command, path string, asked *admin.Change, done func(*admin.Changed) string) error {
	asked.Confirm = true
	text, err := k.ask(c.Context(), http.MethodPost, path, asked)
	if err != nil {
		return err
	}
	if k.asJSON {
		_, err = c.OutOrStdout().Write(text)
		return err //nolint:wrapcheck // nothing to add
	}
	var did admin.Changed
	if err := json.Unmarshal(text, &did); err != nil {
		return failure{fmt.Errorf("the proxy's answer: %w", err)}
	}
	_, err = fmt.Fprintln(c.OutOrStdout(), done(&did))
	return err //nolint:wrapcheck // nothing to add
}
