package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/idemproxy/idemproxy/internal/redact"
)

func verifyCommand() *cobra.Command {
	v := newVerifier()
	var execute, asJSON bool
	var headers []string
	c := &cobra.Command{
		Use: "verify URL", Short: "Try out, as a client, whether a proxy protects a URL", Args: cobra.ExactArgs(1),
		SilenceUsage: true, SilenceErrors: true,
		Long: "Sends real requests to URL, through the proxy, with keys of its own: a first one, its retry, another body with its\n" +
			"key, two at the same time, and one without a key. The backend executes three of them; and up to five if the URL is not\n" +
			"protected. So it wants --execute, and a URL, a method and a body that may be executed so often: a test system's.\n\n" +
			"It says what was answered to each, and what a client should do then. It exits with 1 unless all was seen to be protected.",
		Example: "  idemproxy verify https://test.example/payments -d '{\"amount\":5}' -H 'Authorization: Bearer ...' --execute",
	}
	f := c.Flags()
	f.BoolVar(&execute, "execute", false, "yes, the backend may execute these requests")
	f.StringVarP(&v.method, "method", "X", http.MethodPost, "method of the requests")
	f.StringVarP(&v.body, "data", "d", "", "body of the requests; @FILE reads it from a file")
	f.StringVar(&v.other, "other-data", "", "body that must count as another one; without it, one is made of the body")
	f.StringArrayVarP(&headers, "header", "H", nil, "field of the requests, NAME: VALUE; once for each")
	f.StringVar(&v.keyHeader, "key-header", "Idempotency-Key", "field that carries the key")
	f.DurationVar(&v.client.Timeout, "timeout", 30*time.Second, "how long an answer may take")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := v.prepare(args[0], headers); err != nil {
			return err
		}
		if !execute {
			return errors.New("this has the backend execute requests: three, and up to five if the URL is not protected; " +
				"say --execute if it may")
		}
		steps := v.run(c.Context())
		if err := printSteps(c.OutOrStdout(), steps, asJSON); err != nil {
			return err
		}
		for i := range steps {
			if steps[i].Verdict == notProtected || steps[i].Verdict == cannotTell {
				return failure{fmt.Errorf("%s is not seen to be protected: %s", redact.URL(args[0]), steps[i].Step)}
			}
		}
		return nil
	}
	return c
}

// prepare reads what is to be sent.
func (v *verifier) prepare(target string, headers []string) error {
	u, err := redact.Parse(target)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("the URL %s: want http://HOST/PATH or https://HOST/PATH", shownTarget(target))
	}
	v.target = target
	if name, isFile := strings.CutPrefix(v.body, "@"); isFile {
		text, err := os.ReadFile(name) //nolint:gosec // the user names it
		if err != nil {
			return fmt.Errorf("--data: %w", err)
		}
		v.body = string(text)
	}
	if v.other == "" {
		v.other = otherBody(v.body)
	}
	if v.other == v.body {
		return errors.New("--other-data: want another body than --data")
	}
	v.header = http.Header{}
	for _, line := range headers {
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return errors.New("--header: want NAME: VALUE")
		}
		v.header.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	if v.header.Get("Content-Type") == "" && v.body != "" {
		v.header.Set("Content-Type", "application/x-www-form-urlencoded")
		if json.Valid([]byte(v.body)) {
			v.header.Set("Content-Type", "application/json")
		}
	}
	return nil
}

// shownTarget is what a user gave instead of a URL, without what may be secret of it. Its scheme
// is missing or another one, and what follows is shown as it would be after http://.
func shownTarget(target string) string {
	scheme, rest, has := strings.Cut(target, "://")
	if !has {
		scheme, rest = "", target
	}
	if strings.ContainsFunc(scheme, func(c rune) bool { return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') }) {
		return redact.Hidden
	}
	shown := strings.TrimPrefix(redact.URL("http://"+rest), "http://")
	if !has {
		return shown
	}
	return scheme + "://" + shown
}

// otherBody is one that no reader takes for the same: white space would not do in JSON.
func otherBody(body string) string {
	var object map[string]json.RawMessage
	if json.Unmarshal([]byte(body), &object) == nil && object != nil {
		object["idemproxy-verify"] = json.RawMessage(`"another body"`)
		if text, err := json.Marshal(object); err == nil {
			return string(text)
		}
	}
	if values, err := url.ParseQuery(body); err == nil && body != "" {
		values.Set("idemproxy-verify", "another body")
		return values.Encode()
	}
	return body + " another body"
}

func printSteps(w io.Writer, steps []step, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(map[string]any{"steps": steps}) //nolint:wrapcheck // nothing to add
	}
	var b strings.Builder
	for i := range steps {
		s := &steps[i]
		fmt.Fprintf(&b, "%-14s %s\n", s.Step, s.Verdict)
		for _, a := range s.Answers {
			fmt.Fprintf(&b, "  answered     %s\n", a)
		}
		fmt.Fprintf(&b, "  so           %s\n", s.Means)
		if s.Client != "" {
			fmt.Fprintf(&b, "  your client  %s\n", s.Client)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err //nolint:wrapcheck // nothing to add
}
