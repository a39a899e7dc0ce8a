package cli

import (
	"fmt"
	"net/http"

	"github.com/spf13/cobra"
)

// healthCommand is for health checks of containers that have no other program.
func healthCommand() *cobra.Command {
	var k keyCommand
	c := &cobra.Command{
		Use: "health", Short: "Ask a running proxy whether it is alive, for health checks", Args: cobra.NoArgs,
		Long: "Exit code 0 says that the proxy is alive; with --ready, that requests should be sent to it: something is\n" +
			"served, and it is not draining. What is degraded is printed (docs/readiness.md).",
		Example: "  idemproxy health\n  idemproxy health --ready",
	}
	k.flags(c)
	_ = c.Flags().MarkHidden("scope")
	ready := c.Flags().Bool("ready", false, "ask whether it can serve")
	c.RunE = func(c *cobra.Command, _ []string) error {
		path := "/healthz"
		if *ready {
			path = "/readyz"
		}
		text, err := k.ask(c.Context(), http.MethodGet, path, nil)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s", text)
		return err //nolint:wrapcheck // nothing to add
	}
	return c
}
