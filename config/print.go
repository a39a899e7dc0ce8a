package config

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// Print writes the settings as a YAML file that Load reads back, each with its
// meaning and, if it is not a default, its origin; then the upstreams and
// routes, each with what it does not have from the settings at large. URLs are
// printed without what may be a secret: see package redact.
func (c *Config) Print(w io.Writer, flags *pflag.FlagSet, origin Origin) error {
	return c.print(w, flags, origin, func(*pflag.Flag) bool { return true })
}

// PrintChanged writes what Print does of the settings whose values are not the defaults; of
// the upstreams and routes it writes all.
func (c *Config) PrintChanged(w io.Writer, flags *pflag.FlagSet, origin Origin) error {
	d := Default()
	defaults, some := d.Flags(), len(c.Upstreams)+len(c.Routes) > 0
	err := c.print(w, flags, origin, func(f *pflag.Flag) bool {
		usual := defaults.Lookup(f.Name)
		changed := usual == nil || usual.Value.String() != f.Value.String()
		some = some || changed
		return changed
	})
	if err != nil || some {
		return err
	}
	if _, err := io.WriteString(w, "# every setting has its default\n"); err != nil {
		return fmt.Errorf("printing the configuration: %w", err)
	}
	return nil
}

// print writes the settings that are wanted, and the upstreams and routes.
func (c *Config) print(w io.Writer, flags *pflag.FlagSet, origin Origin, wanted func(*pflag.Flag) bool) error {
	var err error
	shown := newShowings()
	flags.VisitAll(func(f *pflag.Flag) {
		if err != nil || slices.Contains(notSettings(), f.Name) || !wanted(f) {
			return
		}
		from := ""
		if place, ok := origin[f.Name]; ok {
			from = "  # from " + place
		}
		_, err = fmt.Fprintf(w, "# %s\n%s: %s%s\n", f.Usage, keyOf(f.Name), shown.yaml(f), from)
	})
	if err == nil {
		err = c.printRoutes(w, shown)
	}
	if err != nil {
		return fmt.Errorf("printing the configuration: %w", err)
	}
	return nil
}

func (c *Config) printRoutes(w io.Writer, shown showings) error {
	var b strings.Builder
	for i := range c.Upstreams {
		u := c.Upstreams[i]
		if i == 0 {
			b.WriteString("upstreams:\n")
		}
		printItem(&b, shown, u.flags(), u.origin)
	}
	for i := range c.Routes {
		r := c.Routes[i]
		if i == 0 {
			b.WriteString("routes:\n")
		}
		printItem(&b, shown, r.flags(), r.origin)
	}
	_, err := io.WriteString(w, b.String())
	return err //nolint:wrapcheck // the caller says what for
}

// printItem prints one item of a list: its name, and what it has of its own.
func printItem(b *strings.Builder, shown showings, flags *pflag.FlagSet, origin Origin) {
	dash := "- "
	flags.VisitAll(func(f *pflag.Flag) {
		if place, ok := origin[f.Name]; ok || f.Name == "name" {
			fmt.Fprintf(b, "  %s%s: %s", dash, keyOf(f.Name), shown.yaml(f))
			if ok {
				b.WriteString("  # from " + place)
			}
			b.WriteString("\n")
			dash = "  "
		}
	})
}

// yaml is a value as a file has it.
func (all showings) yaml(f *pflag.Flag) string {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		items := all.of(f.Name, list.GetSlice()...)
		for i, item := range items {
			items[i] = itemOf(item)
		}
		return "[" + strings.Join(items, ", ") + "]"
	}
	value := all.of(f.Name, f.Value.String())[0]
	if f.Value.Type() == "string" {
		return fmt.Sprintf("%q", value)
	}
	return value
}

// itemOf is an item of a list, in quotes where YAML would read it as something else.
func itemOf(text string) string {
	plain := text != "" && text == strings.TrimSpace(text) && !strings.ContainsAny(text, `*&!|>'"%#[]{},~\`+"`") &&
		!strings.HasPrefix(text, "-") && !strings.HasPrefix(text, "?") && !strings.HasPrefix(text, "@") &&
		!strings.Contains(text, ": ") && !strings.HasSuffix(text, ":") && !strings.EqualFold(text, "null")
	if plain {
		return text
	}
	return strconv.Quote(text)
}

// Table writes the settings as a Markdown table, for the documentation.
func Table(w io.Writer) error {
	c := Default()
	if err := printTable(w, settings(), c.Flags()); err != nil {
		return fmt.Errorf("printing the settings: %w", err)
	}
	return nil
}

func printTable[S, R any](w io.Writer, lines []setting[S, R], flags *pflag.FlagSet) error {
	var b strings.Builder
	b.WriteString("| flag | default | live | careful | meaning |\n| --- | --- | --- | --- | --- |\n")
	for _, l := range lines {
		a := l.about()
		value := cmp.Or(valueOf(flags.Lookup(a.name)), " ")
		fmt.Fprintf(&b, "| `--%s` | `%s` | %s | %s | %s |\n", a.name, value, yes(a.live), yes(a.careful), a.usage)
	}
	_, err := io.WriteString(w, b.String())
	return err //nolint:wrapcheck // the caller says what for
}

func yes(is bool) string {
	if is {
		return "yes"
	}
	return " "
}

// Own are the settings that a route has of its own, by their names in the file;
// what it is called and what it matches aside.
func (r *Route) Own() map[string]string {
	own, shown := map[string]string{}, newShowings()
	c := *r
	c.flags().VisitAll(func(f *pflag.Flag) {
		switch f.Name {
		case "name", "host", "path", "methods":
			return
		}
		if _, set := r.origin[f.Name]; set {
			own[keyOf(f.Name)] = strings.Trim(shown.yaml(f), `"`)
		}
	})
	return own
}
