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
	"strconv"
	"strings"
	"time"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/idemproxy/idemproxy/admin"
	"github.com/idemproxy/idemproxy/app"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/redact"
)

// keyCommand is what the commands on one key have in common: they ask the admin
// listener of a running proxy.
type keyCommand struct {
	target
	scopes []string
	asJSON bool
}

func (k *keyCommand) flags(c *cobra.Command) {
	c.SilenceUsage, c.SilenceErrors = true, true
	k.target.flags(c)
	c.Flags().StringArrayVar(&k.scopes, "scope", nil,
		"the key's scope, if the route has one: source=value, such as header:X-Account-Id=acct_7; once for each source")
	c.Flags().BoolVar(&k.asJSON, "json", false, "print JSON")
	c.PreRunE = func(c *cobra.Command, _ []string) error {
		if err := k.find(); err != nil {
			return err
		}
		if !k.asJSON && c.Name() != "health" { // which is for machines
			_, _ = fmt.Fprintf(c.ErrOrStderr(), "asking the proxy at %s\n", k.named())
		}
		return nil
	}
}

// scope is the key's scope as records have it.
func (k *keyCommand) scope() string { return scopeOf(k.scopes) }

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
	said := &refused{resp.StatusCode, refusal.Error}
	if said.status == http.StatusBadRequest {
		return nil, said // what was asked is wrong
	}
	return nil, failure{said}
}

// refused is what the proxy answers instead.
type refused struct {
	status int
	text   string
}

// Error implements error.
func (r *refused) Error() string { return r.text }

// errNoRecord is what it answers of a key that has none.
var errNoRecord = errors.New("no record")

// Is implements errors.Is.
func (r *refused) Is(err error) bool { return err == errNoRecord && r.status == http.StatusNotFound }

// loggedDigits is how many digits logs write of a key's digest.
const loggedDigits = 12

// digitsOf counts the digits of what looks as logs write a key, however many they are.
func digitsOf(text string) (n int, looks bool) {
	digits, looks := strings.CutPrefix(text, "key:")
	return len(digits), looks && digits != "" && strings.Trim(digits, "0123456789abcdef") == ""
}

// aDigest is how logs write a key. A client's key may look so as well.
func aDigest(text string) bool {
	n, looks := digitsOf(text)
	return looks && n == loggedDigits
}

// cutDigest says of what has no record that it may have been copied in part; else nothing.
func cutDigest(text string) string {
	n, looks := digitsOf(text)
	if !looks || n == loggedDigits {
		return ""
	}
	return fmt.Sprintf("; if this is the log's name of a key, it is not whole: it has %d hexadecimal digits after key:, "+
		"and the log writes %d", n, loggedDigits)
}

// lookUp finds what stands under a key, or under what the log calls one.
func (k *keyCommand) lookUp(ctx context.Context, key string, body bool) (*admin.Record, error) {
	return k.get(ctx, key, k.scope(), body)
}

func (k *keyCommand) get(ctx context.Context, key, scope string, body bool) (*admin.Record, error) {
	query := url.Values{"body": {strconv.FormatBool(body)}}
	if aDigest(key) {
		query.Set("digest", key)
		r, err := k.record(ctx, query)
		if err == nil {
			return r, nil
		}
		// A client may have chosen a key that looks so.
		if r, asKey := k.record(ctx, named(query, key, scope)); asKey == nil {
			return r, nil
		}
		return nil, err
	}
	r, err := k.record(ctx, named(query, key, scope))
	if hint := cutDigest(key); hint != "" && errors.Is(err, errNoRecord) {
		err = failure{fmt.Errorf("%w%s", err, hint)}
	}
	return r, err
}

func named(query url.Values, key, scope string) url.Values {
	query.Del("digest")
	query.Set("key", key)
	query.Set("scope", scope)
	return query
}

func (k *keyCommand) record(ctx context.Context, query url.Values) (*admin.Record, error) {
	text, err := k.ask(ctx, http.MethodGet, "/keys?"+query.Encode(), nil)
	if err != nil {
		return nil, err
	}
	var r admin.Record
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, failure{fmt.Errorf("the proxy's answer: %w", err)}
	}
	return &r, nil
}

// meant is the key and scope that a command is about, which may say it as the log does.
func (k *keyCommand) meant(ctx context.Context, arg string) (key, scope string, err error) {
	if _, looks := digitsOf(arg); !looks {
		return arg, k.scope(), nil
	}
	r, err := k.lookUp(ctx, arg, false)
	if err != nil {
		return "", "", err
	}
	return r.Key, r.Scope, nil
}

func inspectCommand() *cobra.Command {
	var k keyCommand
	c := &cobra.Command{
		Use: "inspect KEY", Short: "Show what stands under a key", Args: cobra.ExactArgs(1),
		Long: "Shows what stands under a key. KEY may be what the log, tail and the page call it (key: and twelve digits), which\n" +
			"needs no --scope. In Redis all names are looked through for that, for 10 s at most.",
		Example: "  idemproxy inspect order-42-charge\n  idemproxy inspect key:9f86d081884c",
	}
	k.flags(c)
	body := c.Flags().Bool("body", false, "with the response's body")
	c.RunE = func(c *cobra.Command, args []string) error {
		r, err := k.lookUp(c.Context(), args[0], *body)
		if err != nil {
			return err
		}
		if k.asJSON {
			return json.NewEncoder(c.OutOrStdout()).Encode(r)
		}
		return printRecord(c.OutOrStdout(), r)
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
	switch {
	case r.State == idem.InProgress.String():
		fmt.Fprintf(&b, "lease        %v left, owner %s...\n", ms(r.LeaseMS), r.Owner)
	case r.Owner != "":
		fmt.Fprintf(&b, "owner        %s...\n", r.Owner)
	}
	switch {
	case r.BodyOmitted:
		fmt.Fprintf(&b, "response     %d, too large to keep (max_response_body): retries get 409 and are not executed\n", r.Status)
	case r.Status > 0:
		fmt.Fprintf(&b, "response     %d, %d bytes\n", r.Status, r.BodyBytes)
	}
	for _, f := range r.Header {
		fmt.Fprintf(&b, "             %s: %s\n", f[0], f[1])
	}
	if r.Resolved {
		b.WriteString("resolved     by an operator, the resolver or a later receipt, which gave the response\n")
	}
	if r.Receipt != nil {
		fmt.Fprintf(&b, "its receipt  %s\n", receiptText(r.Receipt))
	}
	b.WriteString(keptFor(r))
	if m := r.Mismatch; m != nil {
		fmt.Fprintf(&b, "mismatch     the last was of another %s, at %s: %s %s\n",
			strings.ReplaceAll(m.Differs, ",", " and "), m.At.Local().Format(time.RFC3339), m.Method, m.Path)
	}
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
		if r.BodyOmitted {
			break
		}
		fmt.Fprintf(&b, "replayed for %v more\n", ms(r.ReplayMS))
	case idem.Expired.String():
		b.WriteString("response     its response is not kept any more: retries get 410\n")
	}
	switch {
	case r.ExpiresInMS > 0:
		fmt.Fprintf(&b, "known for    %v more\n", ms(r.ExpiresInMS))
	case r.State == idem.Unknown.String() && r.Receipt != nil:
		b.WriteString("known for    until the backend has said what became of it: it is asked again, " +
			"and by the next request with the key\n")
	case r.State == idem.Unknown.String():
		b.WriteString("known for    ever: it is held until it is resolved\n")
	case r.Receipt != nil:
		b.WriteString("known for    until its lease lapses, and then until the backend has said what became of it\n")
	default:
		b.WriteString("known for    ever, should its lease lapse: it is then held until it is resolved\n")
	}
	fmt.Fprintf(&b, "its request  retention %v, remember %v\n", ms(r.RetentionMS), ms(r.RememberMS))
	return b.String()
}

func ms(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
