package cli

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/idemproxy/idemproxy/app"
	"github.com/idemproxy/idemproxy/config"
)

func fingerprintCommand(cfg *config.Config) *cobra.Command {
	c := &cobra.Command{
		Use: "fingerprint [FILE [FILE]]", Short: "Show what is compared of a request, or why two requests differ",
		Args: cobra.MaximumNArgs(2),
		Long: "Reads a request as a client sends it (request line, header, empty line, body) from the files, or from the standard\n" +
			"input, and says which route it takes, which key it has and from where, in which scope, who asks (bind), and what its\n" +
			"fingerprint is a hash of. With two requests, in two files or one behind the other, it says whether they are the same for\n" +
			"the proxy, and if not, what differs. A body without Content-Length goes on to the end. Nothing is sent. Exit code 1: two\n" +
			"requests differ. It prints what the requests have in them, credentials included.",
		Example: "  idemproxy fingerprint -c idemproxy.yaml < request.http\n" +
			"  idemproxy fingerprint -c idemproxy.yaml first.http retry.http",
		SilenceUsage: true, SilenceErrors: true,
	}
	load := addSettings(c, cfg).load
	c.RunE = func(c *cobra.Command, args []string) error {
		if _, err := load(); err != nil {
			return err
		}
		requests, err := explained(cfg, c.InOrStdin(), args)
		if err != nil {
			return err
		}
		switch len(requests) {
		case 1:
			return printExplained(c.OutOrStdout(), &requests[0])
		case 2:
			return printDifference(c.OutOrStdout(), &requests[0], &requests[1])
		}
		return fmt.Errorf("%d requests: want one, or two to compare", len(requests))
	}
	return c
}

// explained reads the requests in files, or of the standard input.
func explained(cfg *config.Config, in io.Reader, files []string) (all []app.Explained, err error) {
	texts := make([][]byte, 0, 2)
	for _, file := range files {
		text, err := os.ReadFile(file) //nolint:gosec // the operator names it
		if err != nil {
			return nil, fmt.Errorf("the request: %w", err)
		}
		texts = append(texts, text)
	}
	if len(files) == 0 {
		text, err := io.ReadAll(in)
		if err != nil {
			return nil, fmt.Errorf("the request: %w", err)
		}
		texts = append(texts, text)
	}
	for _, text := range texts {
		some, err := app.Explain(cfg, text)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

func printExplained(w io.Writer, e *app.Explained) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	sum := hex.EncodeToString(e.Fingerprint[:])
	_, _ = fmt.Fprintf(t, "route\t%s\nkey\t%s\n", routeName(e), keyName(e))
	for _, h := range e.Scope {
		_, _ = fmt.Fprintf(t, "scope\t%s\n", printable(h.Part+": "+h.Value))
	}
	for _, h := range e.Caller {
		_, _ = fmt.Fprintf(t, "caller\t%s\n", printable(h.Part+": "+h.Value))
	}
	_, _ = fmt.Fprintf(t, "fingerprint\t%s\nof\n", sum)
	for _, h := range e.Hashed {
		_, _ = fmt.Fprintf(t, "  %s\t%s\n", h.Part, printable(h.Value))
	}
	return t.Flush() //nolint:wrapcheck // nothing to add
}

func routeName(e *app.Explained) string {
	if e.Route == "" {
		return "(the settings at large)"
	}
	return e.Route
}

func keyName(e *app.Explained) string {
	switch {
	case e.NoKey != nil:
		return "refused: " + e.NoKey.Error()
	case e.Key == "":
		return "none"
	}
	return fmt.Sprintf("%s (%s)", e.Key, e.Source)
}

// printable is a value in one line, without what would steer a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// errDiffers has exit code 1.
var errDiffers = failure{errors.New("the requests differ")}

// printDifference says what is not the same.
func printDifference(w io.Writer, a, b *app.Explained) error {
	var lines []string
	add := func(what, one, two string) {
		if one != two {
			lines = append(lines, fmt.Sprintf("%s differs:\n  1  %s\n  2  %s\n", what, printable(one), printable(two)))
		}
	}
	add("route", routeName(a), routeName(b))
	add("key", keyName(a), keyName(b))
	add("scope", fieldsOf(a.Scope), fieldsOf(b.Scope))
	add("caller", fieldsOf(a.Caller), fieldsOf(b.Caller))
	for _, h := range aligned(a.Hashed, b.Hashed) {
		what := h.part
		if at, differ := app.Difference(h.one, h.two); h.part == "json" && differ {
			what += " at " + at
		}
		add(what, h.one, h.two)
	}
	if len(lines) == 0 {
		_, err := fmt.Fprintf(w, "the same request, with the key %s\n", printable(keyName(a)))
		return err //nolint:wrapcheck // nothing to add
	}
	_, _ = io.WriteString(w, strings.Join(lines, ""))
	return errDiffers
}

// fieldsOf is what the scope or the caller is told by, in one line.
func fieldsOf(all []app.Hashed) string {
	if len(all) == 0 {
		return "(nothing says it)"
	}
	lines := make([]string, len(all))
	for i, h := range all {
		lines[i] = h.Part + ": " + h.Value
	}
	return strings.Join(lines, ", ")
}

// hashedTwice is a part of two requests.
type hashedTwice struct{ part, one, two string }

// notThere is the value of a part that only the other request has.
const notThere = "(not there)"

// aligned has the parts of two requests side by side. They are in the same order in both.
func aligned(a, b []app.Hashed) (all []hashedTwice) {
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].Part != b[0].Part && !has(b, a[0].Part):
			all, a = append(all, hashedTwice{a[0].Part, a[0].Value, notThere}), a[1:]
		case len(a) == 0 || a[0].Part != b[0].Part:
			all, b = append(all, hashedTwice{b[0].Part, notThere, b[0].Value}), b[1:]
		default:
			all, a, b = append(all, hashedTwice{a[0].Part, a[0].Value, b[0].Value}), a[1:], b[1:]
		}
	}
	return all
}

func has(all []app.Hashed, part string) bool {
	return slices.ContainsFunc(all, func(h app.Hashed) bool { return h.Part == part })
}
