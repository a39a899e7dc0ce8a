package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/idemproxy/idemproxy/config"
)

// Groups of commands.
const (
	groupRun, groupSettings, groupKeys, groupLook, groupStore = "run", "settings", "keys", "look", "store"
)

// grouped puts the commands into groups, and has help and mistakes say so.
func grouped(root *cobra.Command) {
	root.AddGroup(
		&cobra.Group{ID: groupRun, Title: "Run a proxy:"}, &cobra.Group{ID: groupSettings, Title: "Its settings:"},
		&cobra.Group{ID: groupLook, Title: "Look at one that runs:"}, &cobra.Group{ID: groupKeys, Title: "Its keys:"},
		&cobra.Group{ID: groupStore, Title: "Its store:"},
	)
	of := map[string]string{
		"serve": groupRun, "version": groupRun, "check": groupSettings, "config": groupSettings, "routes": groupSettings,
		"status": groupLook, "tail": groupLook, "advise": groupLook, "verify": groupLook, "top": groupLook, "health": groupLook,
		"backup": groupStore, "restore": groupStore, "copy": groupStore,
		"fingerprint": groupSettings, "migrate": groupStore,
		"inspect": groupKeys, "list": groupKeys, "resolve": groupKeys, "release": groupKeys, "purge": groupKeys,
	}
	for _, c := range root.Commands() {
		c.GroupID = of[c.Name()]
		c.Args = wantedArgs(c.Args)
	}
	root.SetFlagErrorFunc(meantFlag)
	root.SetUsageFunc(usage)
	root.SuggestionsMinimumDistance = 2
	root.Args = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		text := fmt.Sprintf("%q is no command", args[0])
		if near := c.SuggestionsFor(args[0]); len(near) > 0 {
			text += "; did you mean " + strings.Join(near, ", ") + "?"
		}
		return errors.New(text)
	}
}

// wantedArgs says what a command wants, where the library says how many arguments it counted.
func wantedArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if check == nil {
			return nil
		}
		err := check(c, args)
		if err != nil && (strings.HasPrefix(err.Error(), "accepts ") || strings.HasPrefix(err.Error(), "unknown command")) {
			return fmt.Errorf("want: %s", c.UseLine())
		}
		return err
	}
}

// whereHelpIs ends a message about a mistake of asking.
func whereHelpIs(c *cobra.Command) string {
	if c.Flags().Lookup("listen") != nil {
		return "Run `idemproxy --help` for the settings."
	}
	return "Run `" + c.CommandPath() + " --help`."
}

// meantFlag says which flag was perhaps meant.
func meantFlag(c *cobra.Command, err error) error {
	name, unknown := strings.CutPrefix(err.Error(), "unknown flag: --")
	if !unknown {
		return err
	}
	if near := config.Nearest(c.Flags(), name); near != "" {
		return fmt.Errorf("%w; did you mean --%s?", err, near)
	}
	return err
}

// usage is cobra's, with the settings in sections.
func usage(c *cobra.Command) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage:\n  %s\n", c.UseLine())
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "  %s [command]\n", c.CommandPath())
	}
	if c.HasExample() {
		fmt.Fprintf(&b, "\nExamples:\n%s\n", c.Example)
	}
	for _, g := range append(c.Groups(), &cobra.Group{Title: "More:"}) {
		shown := ""
		for _, sub := range c.Commands() {
			if sub.GroupID == g.ID && (sub.IsAvailableCommand() || sub.Name() == "help") {
				shown += fmt.Sprintf("  %-11s %s\n", sub.Name(), sub.Short)
			}
		}
		if shown != "" {
			fmt.Fprintf(&b, "\n%s\n%s", g.Title, shown)
		}
	}
	usageOfFlags(&b, c.Flags())
	_, err := fmt.Fprint(c.OutOrStderr(), b.String())
	return err //nolint:wrapcheck // nothing to add
}

func usageOfFlags(b *strings.Builder, flags *pflag.FlagSet) {
	shown := map[string]bool{}
	isServe := flags.Lookup("listen") != nil
	for _, section := range config.Sections() {
		if !isServe {
			break // flags of that name are something else here
		}
		part := pflag.NewFlagSet("", pflag.ContinueOnError)
		part.SortFlags = false
		for _, name := range section.Flags {
			if f := flags.Lookup(name); f != nil {
				part.AddFlag(f)
				shown[name] = true
			}
		}
		fmt.Fprintf(b, "\n%s:\n%s", section.Title, part.FlagUsagesWrapped(120))
	}
	rest := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.VisitAll(func(f *pflag.Flag) {
		if !shown[f.Name] {
			rest.AddFlag(f)
		}
	})
	if rest.HasAvailableFlags() {
		fmt.Fprintf(b, "\nFlags:\n%s", rest.FlagUsagesWrapped(120))
	}
}
