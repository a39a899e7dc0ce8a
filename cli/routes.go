package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/idemproxy/idemproxy/app"
	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/internal/redact"
)

// shownRoute is a route as routes --json prints it.
type shownRoute struct {
	Name    string   `json:"name"`
	Host    string   `json:"host,omitempty"`
	Path    string   `json:"path,omitempty"`
	Methods []string `json:"methods,omitempty"`
	// Rules are the settings that the route has of its own.
	Rules map[string]string `json:"rules,omitempty"`
	// Matches is there if a request was asked about.
	Matches *bool `json:"matches,omitempty"`
}

func routesCommand(cfg *config.Config) *cobra.Command {
	asJSON := false
	c := &cobra.Command{
		Use: "routes [METHOD URL]", Short: "Show the routes in the order in which they are tried, or the one that a request takes",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 0 && len(args) != 2 {
				return fmt.Errorf("%d arguments: want none, or a method and a URL", len(args))
			}
			return nil
		},
		Long: "Shows the routes, the most specific first, which is the order in which they are tried, with the settings that each\n" +
			"has of its own. With a method and a URL it marks the one that such a request takes. Exit code 1: it is refused, since\n" +
			"servers read its target in different ways (ambiguous_paths), or it is malformed.",
		Example: "  idemproxy routes -c idemproxy.yaml\n" +
			"  idemproxy routes -c idemproxy.yaml POST https://api.example.com/payments",
		SilenceUsage: true, SilenceErrors: true,
	}
	load := addSettings(c, cfg).load
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	c.RunE = func(c *cobra.Command, args []string) error {
		if _, err := load(); err != nil {
			return err
		}
		routing, err := app.RoutingOf(cfg)
		if err != nil {
			return err
		}
		taken, refused := -2, error(nil) // nothing was asked
		if len(args) == 2 {
			host, target, err := splitURL(args[1])
			if err != nil {
				return err
			}
			if taken, refused = routing.Of(strings.ToUpper(args[0]), host, target); refused != nil {
				return failure{fmt.Errorf("such a request is refused: %w", refused)}
			}
		}
		shown := showRoutes(cfg, routing, taken)
		if asJSON {
			e := json.NewEncoder(c.OutOrStdout())
			e.SetIndent("", "  ")
			return e.Encode(shown)
		}
		return printRoutes(c.OutOrStdout(), shown)
	}
	return c
}

// splitURL takes a URL apart as it is spelled, since routes hang on that. A fragment
// is not sent.
func splitURL(text string) (host, target string, err error) {
	scheme, rest, ok := strings.Cut(text, "://")
	text, _, _ = strings.Cut(text, "#")
	rest, _, _ = strings.Cut(rest, "#")
	end := strings.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	host, target = rest[:end], rest[end:]
	if !ok || scheme != "http" && scheme != "https" || host == "" {
		return "", "", fmt.Errorf("%q: want a URL with a host, such as https://api.example.com/payments", redact.URL(text))
	}
	if !strings.HasPrefix(target, "/") {
		target = "/" + target
	}
	return host, target, nil
}

// showRoutes lists the routes, and the settings at large at the end.
func showRoutes(cfg *config.Config, routing *app.Routing, taken int) []shownRoute {
	own := map[string]map[string]string{}
	for i := range cfg.Routes {
		own[cfg.Routes[i].Name] = cfg.Routes[i].Own()
	}
	sorted := routing.Routes()
	shown := make([]shownRoute, 0, len(sorted)+1)
	mark := func(i int) *bool {
		if taken == -2 {
			return nil
		}
		matches := i == taken
		return &matches
	}
	for i, r := range sorted {
		shown = append(shown, shownRoute{
			Name: r.Name, Host: r.Match.Host, Path: r.Match.Path, Methods: r.Match.Methods, Rules: own[r.Name], Matches: mark(i),
		})
	}
	return append(shown, shownRoute{Name: "(everything else)", Matches: mark(-1)})
}

func printRoutes(w io.Writer, shown []shownRoute) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "  \tNAME\tHOST\tPATH\tMETHODS\tSETTINGS OF ITS OWN")
	for _, r := range shown {
		sign := " "
		if r.Matches != nil && *r.Matches {
			sign = "->"
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", sign, r.Name, or(r.Host, "any"), or(r.Path, "any"),
			or(strings.Join(r.Methods, ","), "any"), or(joined(r.Rules), "none"))
	}
	return t.Flush() //nolint:wrapcheck // nothing to add
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func joined(rules map[string]string) string {
	parts := make([]string, 0, len(rules))
	for name, value := range rules {
		parts = append(parts, name+": "+value)
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}
