package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/idemproxy/idemproxy/admin"
	"github.com/idemproxy/idemproxy/config"
)

// bulk is many keys at once: those of a filter, or of a file.
type bulk struct {
	state     string // that they must be in
	all       bool
	file      string
	olderThan time.Duration
	dryRun    bool
	yes       bool
	unread    error // of the records that --all has not
}

func (b *bulk) flags(c *cobra.Command) {
	c.Flags().BoolVar(&b.all, "all", false, "instead of KEY: every key that is "+b.state+"; of one scope with --scope")
	c.Flags().StringVar(&b.file, "file", "", "instead of KEY: the keys of a file, - for standard input: in each line a key, what "+
		"the log calls one (key:...), or an element of keys in list --json")
	c.Flags().Var(config.Duration(&b.olderThan), "older-than", "with --all: only those whose first request is that long ago")
	c.Flags().BoolVar(&b.dryRun, "dry-run", false, "show which keys it would be, and do nothing")
	c.Flags().BoolVar(&b.yes, "yes", false, "do not ask")
	c.MarkFlagsMutuallyExclusive("all", "file")
	c.MarkFlagsMutuallyExclusive("dry-run", "yes")
}

// args takes one key, or none with --all or --file.
func (b *bulk) args(c *cobra.Command, args []string) error {
	many := b.all || b.file != ""
	switch {
	case many && len(args) > 0:
		return errors.New("want a key, or --all or --file, not both")
	case !many && len(args) == 0:
		return fmt.Errorf("%s: want a key, or --all, or --file", c.Name())
	case b.olderThan != 0 && !b.all:
		return errors.New("--older-than goes with --all")
	}
	return cobra.MaximumNArgs(1)(c, args)
}

// keys are those that are meant, the oldest first, or in the file's order.
func (b *bulk) keys(c *cobra.Command, k *keyCommand, args []string) ([]admin.Record, error) {
	switch {
	case b.all:
		return b.listed(c, k)
	case b.file != "":
		return b.read(c, k)
	}
	r, err := k.lookUp(c.Context(), args[0], false)
	if err != nil {
		return nil, err
	}
	return []admin.Record{*r}, nil
}

// listPage is how many keys are asked for at a time.
const listPage = 1000

func (b *bulk) listed(c *cobra.Command, k *keyCommand) (all []admin.Record, err error) {
	query := url.Values{"state": {b.state}, "limit": {strconv.Itoa(listPage)}}
	if c.Flags().Changed("scope") {
		query.Set("scope", k.scope())
	}
	for {
		l, err := k.listing(c.Context(), query)
		if err != nil {
			return nil, err
		}
		b.unread = unread(&l)
		for i := range l.Keys {
			if ms(l.Keys[i].AgeMS) < b.olderThan {
				return all, nil // and so are all that follow
			}
			all = append(all, l.Keys[i])
		}
		if !l.More {
			return all, nil
		}
		query.Set("after", l.Next)
	}
}

func (b *bulk) read(c *cobra.Command, k *keyCommand) (all []admin.Record, err error) {
	in := c.InOrStdin()
	if b.file != "-" {
		f, err := os.Open(b.file)
		if err != nil {
			return nil, fmt.Errorf("--file: %w", err)
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" {
			continue
		}
		given := admin.Record{Key: text, Scope: k.scope()}
		if strings.HasPrefix(text, "{") {
			given = admin.Record{}
			if err := json.Unmarshal([]byte(text), &given); err != nil || given.Key == "" {
				return nil, fmt.Errorf("%s:%d: want a key, or a JSON object that has one", b.file, n)
			}
		}
		r, err := k.get(c.Context(), given.Key, given.Scope, false)
		switch {
		case errors.Is(err, errNoRecord):
			given.State = "without a record" + cutDigest(given.Key)
			r = &given
		case err != nil:
			return nil, err
		case given.Owner != "" && r.Owner != given.Owner && r.State == b.state:
			r.State = "another attempt than the file's" // of which it says nothing
		}
		all = append(all, *r)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("--file: %w", err)
	}
	return all, nil
}

// act is what many keys are changed to.
type act struct {
	does string // as in: 2 keys were ...
	asks string // a question, with %s for 2 keys
}

// run shows the keys, asks, and has change made to each; what is not in the state that it must
// be in is left out, and said.
func (b *bulk) run(
	c *cobra.Command, k *keyCommand, all []admin.Record, a act, one func(r *admin.Record) (path string, asked *admin.Change),
) error {
	does := a.does
	var fit []admin.Record
	left := 0
	for i := range all {
		if r := &all[i]; r.State == b.state {
			fit = append(fit, *r)
			continue
		}
		left++
		_, _ = fmt.Fprintf(c.ErrOrStderr(), "left out: %s is %s\n", name(&all[i]), all[i].State)
	}
	if len(fit) > 0 && !k.asJSON && (b.dryRun || isPerson(c.InOrStdin()) && !b.yes) {
		if err := printListing(c.OutOrStdout(), &admin.Listing{Keys: fit}); err != nil {
			return err
		}
	}
	if b.dryRun {
		err := k.told(c, &changes{DryRun: true, Keys: len(fit), LeftOut: left},
			fmt.Sprintf("a dry run, nothing was done: %s would be %s, %d left out", count(len(fit)), does, left))
		return b.ended(err)
	}
	if len(fit) > 0 {
		if b.all && !b.yes && !isPerson(c.InOrStdin()) { // a script that forgot --older-than has nobody to ask
			return failure{fmt.Errorf("every key that is %s, which are %d: nothing was done without --yes", b.state, len(fit))}
		}
		if err := k.mayChange(c, fmt.Sprintf(a.asks, count(len(fit))), b.yes); err != nil {
			return err
		}
	}
	done, failed := 0, 0
	for i := range fit {
		path, asked := one(&fit[i])
		asked.Confirm = true
		if _, err := k.ask(c.Context(), http.MethodPost, path, asked); err != nil {
			failed++
			_, _ = fmt.Fprintf(c.ErrOrStderr(), "%s: %v\n", name(&fit[i]), err)
			if c.Context().Err() != nil {
				break
			}
			continue
		}
		done++
	}
	err := k.told(c, &changes{Keys: done, LeftOut: left, Failed: failed},
		fmt.Sprintf("%s %s, %d left out, %d failed", count(done), does, left, failed))
	if err == nil && failed > 0 {
		err = failure{fmt.Errorf("%s could not be %s", count(failed), does)}
	}
	return b.ended(err)
}

// ended is err, or else that there may be keys that --all does not know of.
func (b *bulk) ended(err error) error {
	if err != nil {
		return err
	}
	return b.unread
}

// changes is what became of many keys, with --json.
type changes struct {
	DryRun  bool `json:"dry_run,omitempty"`
	Keys    int  `json:"keys"`
	LeftOut int  `json:"left_out"`
	Failed  int  `json:"failed"`
}

func (k *keyCommand) told(c *cobra.Command, did *changes, text string) (err error) {
	if k.asJSON {
		return json.NewEncoder(c.OutOrStdout()).Encode(did) //nolint:wrapcheck // nothing to add
	}
	_, err = io.WriteString(c.OutOrStdout(), text+"\n")
	return err //nolint:wrapcheck // nothing to add
}

func count(n int) string {
	if n == 1 {
		return "1 key"
	}
	return strconv.Itoa(n) + " keys"
}

// listing is one page of the store's keys.
func (k *keyCommand) listing(ctx context.Context, query url.Values) (l admin.Listing, err error) {
	text, err := k.ask(ctx, http.MethodGet, "/keys/list?"+query.Encode(), nil)
	if err != nil {
		return l, err
	}
	if err := json.Unmarshal(text, &l); err != nil {
		return l, failure{fmt.Errorf("the proxy's answer: %w", err)}
	}
	return l, nil
}
