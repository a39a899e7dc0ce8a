package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/idemproxy/idemproxy/app"
	"github.com/idemproxy/idemproxy/config"
)

func checkCommand(cfg *config.Config) *cobra.Command {
	c := &cobra.Command{
		Use: "check", Short: "Check the settings, for CI", Args: cobra.NoArgs,
		Long: "Reads the settings and the files they name as serve would. Prints nothing but what is wrong, with the file and\n" +
			"line it was set in, and warnings of what can be used, but does nothing or what was perhaps not meant. Exit code 0:\n" +
			"nothing but warnings; 2: something is wrong.\n\n" +
			"With --earlier it compares the settings with those that your proxies have now: it refuses a change with which a proxy\n" +
			"would not find its records, as the proxy itself would at its start, and says what to add. It asks no proxy and no " +
			"store.\n\n" +
			"With --probe it also connects from this machine to each backend and to each URL in receipts and resolver, with TLS\n" +
			"for https://. It sends no request. Exit code 1: the settings can be used, and one of these cannot be connected to.",
		Example: "  idemproxy check -c idemproxy.yaml\n  idemproxy check -c idemproxy.yaml --probe\n" +
			"  idemproxy check -c new.yaml --earlier idemproxy.yaml",
		SilenceUsage: true, SilenceErrors: true,
	}
	s := addSettings(c, cfg)
	asJSON := c.Flags().Bool("json", false, "print JSON: whether they are right, what is wrong, and what is doubtful")
	earlier := c.Flags().String("earlier", "", "YAML file of the settings that your proxies have now: would their records be found?")
	probe := c.Flags().Bool("probe", false, "connect to the backends, receipts and resolvers: can they be reached from here?")
	c.RunE = func(c *cobra.Command, _ []string) error {
		var found checked
		found.settings(s, *earlier)
		if found.err == nil && *probe {
			found.unreachable, found.err = app.Probe(c.Context(), cfg)
		}
		if *asJSON {
			return found.asJSON(c.OutOrStdout(), *probe)
		}
		for _, doubt := range found.doubts {
			_, _ = fmt.Fprintf(c.ErrOrStderr(), "idemproxy: warning: %v\n", doubt)
		}
		if found.err == nil && len(found.unreachable) > 0 {
			return failure{errors.Join(found.unreachable...)}
		}
		return found.err
	}
	return c
}

// checked is what check found.
type checked struct {
	err         error
	doubts      []error
	unreachable []error
}

// settings checks the settings, and compares them with those of an earlier file if there is one.
func (f *checked) settings(s *settings, earlier string) {
	if _, f.err = s.load(); f.err != nil {
		return
	}
	if f.err = app.Check(s.config); f.err != nil {
		return
	}
	f.doubts = s.config.Doubts()
	if s.file != "" && isWithoutSettings(s.file) {
		f.doubts = append(f.doubts, fmt.Errorf("%s: there are no settings in it: what no flag and no variable of the environment "+
			"sets is at its default", s.file))
	}
	if earlier == "" {
		return
	}
	var more []error
	more, f.err = checkChange(s, earlier)
	f.doubts = append(f.doubts, more...)
}

// isWithoutSettings says that a file sets nothing, whatever flags and the environment set.
func isWithoutSettings(file string) bool {
	c := config.Default()
	origin, err := config.Load(&c, c.Flags(), file, nil)
	return err == nil && len(origin)+len(c.Routes)+len(c.Upstreams) == 0
}

// checkChange compares the settings with those of an earlier file.
func checkChange(s *settings, file string) (doubts []error, err error) {
	before, err := s.from(file)
	if err == nil {
		err = app.Check(&before)
	}
	if err != nil {
		return nil, fmt.Errorf("the earlier settings: %w", err)
	}
	return app.CheckChange(&before, s.config)
}

// errUnreachable ends a check whose findings were printed as JSON.
var errUnreachable = errors.New("something cannot be reached")

// asJSON prints what is wrong, what is doubtful and what cannot be reached, an error each.
func (f *checked) asJSON(w io.Writer, probed bool) error {
	out := struct {
		OK          bool      `json:"ok"`
		Errors      []string  `json:"errors"`
		Warnings    []string  `json:"warnings"`
		Unreachable *[]string `json:"unreachable,omitempty"` // with --probe
	}{OK: f.err == nil && len(f.unreachable) == 0, Errors: []string{}, Warnings: texts(f.doubts)}
	if f.err != nil {
		out.Errors = strings.Split(f.err.Error(), "\n")
	}
	if probed {
		unreachable := texts(f.unreachable)
		out.Unreachable = &unreachable
	}
	wrong := json.NewEncoder(w).Encode(out)
	switch {
	case wrong != nil:
		return wrong //nolint:wrapcheck // nothing to add
	case f.err != nil:
		return errSaid
	case len(f.unreachable) > 0:
		return failure{errUnreachable}
	}
	return nil
}

func texts(errs []error) []string {
	out := make([]string, 0, len(errs))
	for _, err := range errs {
		out = append(out, err.Error())
	}
	return out
}
