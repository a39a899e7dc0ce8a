package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/idemproxy/idemproxy/app"
)

func adviseCommand() *cobra.Command {
	var k keyCommand
	c := &cobra.Command{
		Use: "advise", Short: "Propose settings, from what was observed", Args: cobra.NoArgs,
		Long: "Shows what mode: observe, or an enforce below 100%, has counted in one running proxy since it began, by route, and\n" +
			"proposes settings where the evidence is clear. It changes nothing. Each proxy has counted its own requests only.",
		Example: "  idemproxy advise\n  idemproxy advise --json",
	}
	k.flags(c)
	_ = c.Flags().MarkHidden("scope")
	c.RunE = func(c *cobra.Command, _ []string) error {
		text, err := k.ask(c.Context(), http.MethodGet, "/advice", nil)
		if err != nil {
			return err
		}
		if k.asJSON {
			_, err = c.OutOrStdout().Write(text)
			return err //nolint:wrapcheck // nothing to add
		}
		var advice app.Advice
		if err := json.Unmarshal(text, &advice); err != nil {
			return failure{fmt.Errorf("the proxy's answer: %w", err)}
		}
		return printAdvice(c.OutOrStdout(), &advice)
	}
	return c
}

func printAdvice(w io.Writer, advice *app.Advice) error {
	var b strings.Builder
	if len(advice.Routes) == 0 {
		b.WriteString("Nothing was observed since this proxy began. Set mode: observe for a route, and send it traffic.\n")
	}
	for i := range advice.Routes {
		r := &advice.Routes[i]
		total := uint64(0)
		for _, n := range r.Seen.Would {
			total += n
		}
		fmt.Fprintf(&b, "route %s (%s now), observed since %s: %d requests with a key, %d without\n",
			r.Route, r.Mode, r.Seen.Since.Local().Format("2006-01-02 15:04"), total, r.Seen.Keyless)
		for _, one := range r.Advised {
			verdict := "keep " + one.Now
			if one.Propose != "" {
				verdict = "propose " + one.Propose + ", now " + one.Now
			}
			fmt.Fprintf(&b, "  %-17s %s\n", one.Setting, verdict)
			for _, why := range one.Why {
				fmt.Fprintf(&b, "  %-17s - %s\n", "", why)
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err //nolint:wrapcheck // nothing to add
}
