package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/idemproxy/idemproxy/admin"
	"github.com/idemproxy/idemproxy/app"
	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/redact"
)

// keyCommand is what the commands on one key have in common: they ask the admin
// listener of a running proxy.
type keyCommand struct {
	admin, tokenFile string
	scopes           []string
	asJSON           bool
}

func (k *keyCommand) flags(c *cobra.Command) {
	c.SilenceUsage, c.SilenceErrors = true, true
	c.Flags().StringVar(&k.admin, "admin", config.Default().Admin, "admin address of a running proxy, host:port")
	c.Flags().StringVar(&k.tokenFile, "admin-token-file", os.Getenv(config.EnvPrefix+"ADMIN_TOKEN_FILE"),
		"file with its token, if it wants one")
	c.Flags().StringArrayVar(&k.scopes, "scope", nil,
		"the key's scope, if the route has one: source=value, such as header:X-Account-Id=acct_7; once for each source")
	c.Flags().BoolVar(&k.asJSON, "json", false, "print JSON")
}

// scope is the key's scope as records have it: see caller.ParseScope.
func (k *keyCommand) scope() string {
	var scopes []string
	for _, one := range k.scopes {
		scopes = append(scopes, strings.Split(one, "\t")...) // as resolvers are told it
	}
	for i, one := range scopes {
		if source, value, named := strings.Cut(one, "="); named && strings.HasPrefix(source, "header:") {
			scopes[i] = strings.ToLower(source) + "=" + value
		}
	}
	slices.Sort(scopes)
	return strings.Join(scopes, scopeSeparator)
}

// scopeSeparator stands between a scope's sources; no value has one.
const scopeSeparator = "\x1f"

// shownScope is a scope for people.
func shownScope(scope string) string { return strings.ReplaceAll(scope, scopeSeparator, " and ") }

// where is the admin address, as errors show it.
func (k *keyCommand) where() string { return redact.Addr(k.admin) }

// ask returns what the admin listener answers, or its error.
func (k *keyCommand) ask(ctx context.Context, method, path string, body any) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askedFor)
	defer cancel()
	defer k.showProgress()()
	resp, err := k.request(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, failure{fmt.Errorf("asking the proxy at %s: %w", k.where(), redact.Error(err, k.admin))}
	}
	return answer, nil
}

// askedFor bounds a question: one that reads the whole store may take long.
const askedFor = 10 * time.Minute

// showProgress tells a person at a terminal, and nobody else, that an answer takes
// its time.
func (k *keyCommand) showProgress() (done func()) {
	if k.asJSON || !isatty.IsTerminal(os.Stderr.Fd()) {
		return func() {}
	}
	stop, stopped, begun := make(chan struct{}), make(chan struct{}), time.Now()
	go func() {
		defer close(stopped)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		shown := false
		for {
			select {
			case <-stop:
				if shown {
					_, _ = fmt.Fprint(os.Stderr, "\r\x1b[K")
				}
				return
			case <-tick.C:
				shown = true
				_, _ = fmt.Fprintf(os.Stderr, "\rasking %s ... %v", k.where(), time.Since(begun).Round(time.Second))
			}
		}
	}()
	return func() {
		close(stop)
		<-stopped
	}
}

// request is ask for an answer that does not end.
func (k *keyCommand) request(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, failure{err}
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+k.admin+path, content)
	if err != nil {
		return nil, fmt.Errorf("--admin %s: %w", k.where(), redact.Error(err, "http://"+k.admin+path, k.admin))
	}
	req.Header.Set("Content-Type", "application/json")
	token, err := app.SecretOf(k.tokenFile)
	if err != nil {
		return nil, failure{fmt.Errorf("--admin-token-file: %w", err)}
	}
	if token != nil {
		req.Header.Set("Authorization", "Bearer "+string(token))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, failure{fmt.Errorf("asking the proxy at %s (is it running, with this --admin?): %w", k.where(),
			redact.Error(err, "http://"+k.admin+path, k.admin))}
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	var refusal struct{ Error string }
	if err != nil || json.Unmarshal(answer, &refusal) != nil || refusal.Error == "" {
		refusal.Error = fmt.Sprintf("%s: %s", resp.Status, bytes.TrimSpace(answer))
	}
	return nil, failure{errors.New(refusal.Error)}
}

func inspectCommand() *cobra.Command {
	var k keyCommand
	c := &cobra.Command{
		Use: "inspect KEY", Short: "Show what stands under a key", Args: cobra.ExactArgs(1),
		Example: "  idemproxy inspect order-42-charge",
	}
	k.flags(c)
	body := c.Flags().Bool("body", false, "with the response's body")
	c.RunE = func(c *cobra.Command, args []string) error {
		query := url.Values{"key": {args[0]}, "scope": {k.scope()}, "body": {strconv.FormatBool(*body)}}
		text, err := k.ask(c.Context(), http.MethodGet, "/keys?"+query.Encode(), nil)
		if err != nil {
			return err
		}
		if k.asJSON {
			_, err = c.OutOrStdout().Write(text)
			return err //nolint:wrapcheck // nothing to add
		}
		var r admin.Record
		if err := json.Unmarshal(text, &r); err != nil {
			return failure{fmt.Errorf("the proxy's answer: %w", err)}
		}
		return printRecord(c.OutOrStdout(), &r)
	}
	return c
}

func printRecord(w io.Writer, r *admin.Record) error {
	var b strings.Builder
	fmt.Fprintf(&b, "key          %s\n", r.Key)
	if r.Scope != "" {
		fmt.Fprintf(&b, "scope        %s\n", shownScope(r.Scope))
	}
	fmt.Fprintf(&b, "state        %s\nin the log   %s\nattempt      %d\nfingerprint  %s...\n",
		r.State, r.Digest, r.Attempt, r.Fingerprint)
	fmt.Fprintf(&b, "first seen   %v ago\nlast change  %v ago\n", ms(r.AgeMS), ms(r.ChangedMS))
	if r.Owner != "" {
		fmt.Fprintf(&b, "lease        %v left, owner %s...\n", ms(r.LeaseMS), r.Owner)
	}
	if r.Status > 0 {
		fmt.Fprintf(&b, "response     %d, %d bytes\n", r.Status, r.BodyBytes)
	}
	for _, f := range r.Header {
		fmt.Fprintf(&b, "             %s: %s\n", f[0], f[1])
	}
	if r.Receipt != nil {
		fmt.Fprintf(&b, "its receipt  %s\n", receiptText(r.Receipt))
	}
	b.WriteString(keptFor(r))
	if r.Body != nil {
		fmt.Fprintf(&b, "\n%s\n", r.Body)
	}
	_, err := io.WriteString(w, b.String())
	return err //nolint:wrapcheck // nothing to add
}

func receiptText(r *admin.Receipt) string {
	if r.Status == 0 {
		return r.Says
	}
	return fmt.Sprintf("%s: %d, %d bytes", r.Says, r.Status, r.BodyBytes)
}

// keptFor says how long the key, and its response, are known yet.
func keptFor(r *admin.Record) string {
	var b strings.Builder
	switch r.State {
	case idem.Completed.String():
		fmt.Fprintf(&b, "replayed for %v more\n", ms(r.ReplayMS))
	case idem.Expired.String():
		b.WriteString("response     its response is not kept any more: retries get 410\n")
	}
	switch {
	case r.ExpiresInMS > 0:
		fmt.Fprintf(&b, "known for    %v more\n", ms(r.ExpiresInMS))
	case r.State == idem.Unknown.String():
		b.WriteString("known for    ever: it is held until it is resolved\n")
	default:
		b.WriteString("known for    ever, should its lease lapse: it is then held until it is resolved\n")
	}
	fmt.Fprintf(&b, "its request  retention %v, remember %v\n", ms(r.RetentionMS), ms(r.RememberMS))
	return b.String()
}

func ms(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

func resolveCommand() *cobra.Command {
	var (
		k               keyCommand
		retry, complete bool
		asked           admin.Change
		file            string
	)
	c := &cobra.Command{
		Use: "resolve KEY", Short: "End a key whose outcome is unknown", Args: cobra.ExactArgs(1),
		Long: "Ends a key that was held because its request may or may not have been executed (on_ambiguous: hold).\n" +
			"Look the operation up in the backend first. --retry frees the key: the next request with it executes.\n" +
			"--complete stores a response: retries get it and nothing executes.",
		Example: "  idemproxy resolve order-42-charge --retry\n" +
			"  idemproxy resolve order-42-charge --complete --status 201 --header 'Content-Type=application/json' --body-file charge.json",
	}
	k.flags(c)
	c.Flags().BoolVar(&retry, "retry", false, "it was not executed: free the key")
	c.Flags().BoolVar(&complete, "complete", false, "it was executed: store its response")
	c.Flags().IntVar(&asked.Status, "status", 200, "status of that response")
	c.Flags().StringToStringVar(&asked.Header, "header", nil, "its header fields, name=value")
	c.Flags().StringVar(&file, "body-file", "", "file with its body; - for standard input")
	c.MarkFlagsOneRequired("retry", "complete")
	c.MarkFlagsMutuallyExclusive("retry", "complete")
	for _, name := range []string{"status", "header", "body-file"} {
		c.MarkFlagsMutuallyExclusive("retry", name)
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		asked.Key, asked.Scope, asked.Action, asked.Confirm = args[0], k.scope(), "complete", true
		if retry {
			asked.Action, asked.Status = "retry", 0
		}
		var err error
		if asked.Body, err = readBodyFile(file, c.InOrStdin()); err != nil {
			return err
		}
		text, err := k.ask(c.Context(), http.MethodPost, "/keys/resolve", asked)
		if err != nil {
			return err
		}
		if k.asJSON {
			_, err = c.OutOrStdout().Write(text)
			return err //nolint:wrapcheck // nothing to add
		}
		means := "retries get the response that was given"
		if retry {
			means = "the next request with it executes"
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s is resolved: %s\n", args[0], means)
		return err //nolint:wrapcheck // nothing to add
	}
	return c
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
