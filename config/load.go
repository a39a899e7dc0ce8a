package config

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/spf13/pflag"

	"github.com/idemproxy/idemproxy/internal/redact"
)

// Origin says where each setting that is not a default came from: "--listen",
// "IDEMPROXY_LISTEN" or "file.yaml:3".
type Origin map[string]string

// Load fills c. flags is c.Flags(), already parsed; file may be empty. Later
// sources win: the file, then the environment (as os.Environ gives it), then the
// flags that were set. All errors are reported at once, each with its place.
func Load(c *Config, flags *pflag.FlagSet, file string, environ []string) (Origin, error) {
	origin := Origin{}
	given := map[string]string{}
	flags.Visit(func(f *pflag.Flag) { given[f.Name] = valueOf(f) })

	items, errs := loadFile(flags, file, origin)
	errs = append(errs, loadEnv(flags, environ, origin)...)
	for name, value := range given {
		// Set once more, over what the file and the environment said.
		if err := setWhole(flags.Lookup(name), value); err != nil {
			errs = append(errs, fmt.Errorf("--%s: %w", name, err))
		}
		origin[name] = "--" + name
	}
	if len(errs) > 0 {
		return origin, errors.Join(errs...)
	}
	if err := applyPreset(flags, c.Preset, origin); err != nil {
		return origin, c.At(nil, "preset", err)
	}
	above := Default()
	deriveUnset(settings(), c, &above, origin)
	c.Origin = origin
	// Routes last: what they do not set they have from the settings at large.
	errs = c.loadUpstreams(items["upstreams"], file)
	if errs = append(errs, c.loadRoutes(items["routes"], file)...); len(errs) > 0 {
		return origin, errors.Join(errs...)
	}
	return origin, errors.Join(c.validate(origin)...)
}

// loadRoutes reads the routes. Each starts as a copy of the settings at large.
func (c *Config) loadRoutes(nodes []ast.Node, file string) (errs []error) {
	for i, node := range nodes {
		r := Route{Rules: c.Rules, Name: fmt.Sprintf("route %d", i+1)}
		r.origin, errs = loadMapping(r.flags(), node, file, "routes", errs)
		if _, set := r.origin["preset"]; set {
			if err := applyPreset(r.flags(), r.Preset, r.origin); err != nil {
				errs = append(errs, c.At(&r, "preset", err))
			}
		}
		deriveUnset(ofRoute(), &r, &Route{Rules: c.Rules}, r.origin)
		c.Routes = append(c.Routes, r)
	}
	return errs
}

// loadUpstreams reads the upstreams, likewise.
func (c *Config) loadUpstreams(nodes []ast.Node, file string) (errs []error) {
	for _, node := range nodes {
		u := NamedUpstream{Upstream: c.Upstream}
		u.origin, errs = loadMapping(u.flags(), node, file, "upstreams", errs)
		deriveUnset(ofNamed(), &u, &NamedUpstream{Upstream: c.Upstream}, u.origin)
		c.Upstreams = append(c.Upstreams, u)
	}
	return errs
}

// loadMapping sets flags from one item of a list. The item's own place stands in
// the origin under the list's name in the singular.
func loadMapping(flags *pflag.FlagSet, node ast.Node, file, list string, errs []error) (Origin, []error) {
	place := fmt.Sprintf("%s:%d", file, node.GetToken().Position.Line)
	origin := Origin{itemPlace: place}
	mapping, ok := node.(ast.MapNode)
	if !ok {
		return origin, append(errs, fmt.Errorf("%s: %s: want %s", place, list, lists[list]))
	}
	for it := mapping.MapRange(); it.Next(); {
		place := fmt.Sprintf("%s:%d", file, it.Key().GetToken().Position.Line)
		if err := setNode(flags, it.Key(), it.Value(), place, origin); err != nil {
			errs = append(errs, err)
		}
	}
	return origin, errs
}

// itemPlace is where in an Origin the place of a route or upstream stands.
const itemPlace = "route"

// lists are the settings that only a file can have, and what they are.
//
//nolint:gochecknoglobals // a constant, of a kind that Go has no word for
var lists = map[string]string{
	"routes":    "a list of routes, each with a path, host or methods, and settings",
	"upstreams": "a list of upstreams, each with a name, backend and settings",
}

// At says of a setting where it was set, in the words of Load's own errors: for
// what only those find out who use it. route is nil for the settings at large.
func (c *Config) At(route *Route, setting string, err error) error {
	if route != nil {
		return at(route.origin, setting, err)
	}
	return at(c.Origin, setting, err)
}

// AtUpstream is At for an upstream's setting; upstream is nil for the one at
// large.
func (c *Config) AtUpstream(upstream *NamedUpstream, setting string, err error) error {
	if upstream != nil {
		return at(upstream.origin, setting, err)
	}
	return at(c.Origin, setting, err)
}

func at(origin Origin, setting string, err error) error {
	name := keyOf(setting)
	place := cmp.Or(origin[setting], origin[itemPlace], "--"+setting)
	if !strings.Contains(place, ":") { // the name is in the place
		return fmt.Errorf("%s: %w", place, err)
	}
	return fmt.Errorf("%s: %s: %w", place, name, err)
}

func valueOf(f *pflag.Flag) string {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		return strings.Join(list.GetSlice(), ",")
	}
	return f.Value.String()
}

// setWhole sets a value; a list is replaced, not added to.
func setWhole(f *pflag.Flag, value string) error {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		var items []string
		for item := range strings.SplitSeq(value, ",") {
			if item = strings.TrimSpace(item); item != "" {
				items = append(items, item)
			}
		}
		return list.Replace(items) //nolint:wrapcheck // the caller says where
	}
	err := f.Value.Set(value)
	want := map[string]string{
		"duration": "a duration, such as 500ms, 30s, 24h or 7d", "int": "a whole number", "bool": "true or false",
	}[f.Value.Type()]
	if err != nil && want != "" {
		return fmt.Errorf("%q is not %s", redact.Addr(value), want)
	}
	return redact.Error(err, value)
}

func loadEnv(flags *pflag.FlagSet, environ []string, origin Origin) (errs []error) {
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		setting, ours := strings.CutPrefix(name, EnvPrefix)
		if !ours {
			continue
		}
		f := flags.Lookup(strings.ToLower(strings.ReplaceAll(setting, "_", "-")))
		switch {
		case f == nil && isServiceLink(name, value):
			continue
		case f == nil || f.Name != "config" && slices.Contains(notSettings(), f.Name):
			errs = append(errs, fmt.Errorf("%s: there is no such setting%s", name, suggest(flags, setting)))
			continue
		}
		if err := setWhole(f, value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		origin[f.Name] = name
	}
	return errs
}

// loadFile sets what the file says, and returns the items of the lists for later.
func loadFile(flags *pflag.FlagSet, file string, origin Origin) (items map[string][]ast.Node, errs []error) {
	items = map[string][]ast.Node{}
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file) //nolint:gosec // the operator names it
	if err != nil {
		return nil, []error{fmt.Errorf("the configuration file: %w", err)}
	}
	doc, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, []error{syntaxError(file, err)}
	}
	for _, d := range doc.Docs {
		if d.Body == nil {
			continue
		}
		mapping, ok := d.Body.(ast.MapNode)
		if !ok {
			return nil, []error{fmt.Errorf("%s:%d: want settings, one `name: value` a line", file, d.Body.GetToken().Position.Line)}
		}
		for it := mapping.MapRange(); it.Next(); {
			place := fmt.Sprintf("%s:%d", file, it.Key().GetToken().Position.Line)
			name := it.Key().GetToken().Value
			if list, ok := it.Value().(*ast.SequenceNode); ok && lists[name] != "" {
				items[name] = append(items[name], list.Values...)
				continue
			}
			if err := setNode(flags, it.Key(), it.Value(), place, origin); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return items, errs
}

// syntaxError puts the parser's "[line:column] message", and the picture that
// follows, into the form of the other errors.
func syntaxError(file string, err error) error {
	message, _, _ := strings.Cut(err.Error(), "\n")
	if first, last := strings.Index(message, `"`), strings.LastIndex(message, `"`); first < last { // a key, which may be none
		message = message[:first+1] + redact.Addr(message[first+1:last]) + message[last:]
	}
	place, what, ok := strings.Cut(strings.TrimPrefix(message, "["), "] ")
	if !ok {
		return fmt.Errorf("%s: %s", file, message)
	}
	return fmt.Errorf("%s:%s: %s", file, place, what)
}

func setNode(flags *pflag.FlagSet, key, value ast.Node, place string, origin Origin) error {
	name := redact.Addr(key.GetToken().Value)
	f := flags.Lookup(strings.ReplaceAll(name, "_", "-"))
	if what, ok := lists[name]; ok {
		return fmt.Errorf("%s: %s: want %s", place, name, what)
	}
	if f == nil || strings.Contains(name, "-") || slices.Contains(notSettings(), name) {
		return fmt.Errorf("%s: %s: there is no such setting%s", place, name, suggest(flags, name))
	}
	text, err := textOf(value, joinerOf(f.Name))
	if err == nil {
		err = setWhole(f, text)
	}
	if err != nil {
		return fmt.Errorf("%s: %s: %w", place, name, err)
	}
	origin[f.Name] = place
	return nil
}

// joinerOf is what joins a list in the list of a setting: some settings join things of
// their own by a sign, which then need not be written.
func joinerOf(setting string) string {
	if setting == "key" || setting == "earlier-scopes" {
		return "+"
	}
	return ","
}

// textOf is a scalar as written, or a list with commas. A list in a list is joined by
// inner; `name: value` in one is written name:value, and a list of values is as many of
// these.
func textOf(n ast.Node, inner string) (string, error) {
	switch v := n.(type) {
	case *ast.SequenceNode:
		var items []string
		for _, item := range v.Values {
			text, err := itemText(item, inner)
			if err != nil {
				return "", err
			}
			items = append(items, text)
		}
		return strings.Join(items, ","), nil
	case *ast.NullNode:
		return "", nil
	case *ast.StringNode:
		return v.Value, nil
	case ast.ScalarNode:
		return v.GetToken().Value, nil
	}
	return "", errors.New("want a value or a list, not further settings")
}

// itemText is an item of a list.
func itemText(n ast.Node, inner string) (string, error) {
	switch v := n.(type) {
	case *ast.SequenceNode:
		text, err := textOf(v, inner)
		return strings.ReplaceAll(text, ",", inner), err
	case *ast.MappingNode:
		var all []string
		for _, pair := range v.Values {
			text, err := itemText(pair, inner)
			if err != nil {
				return "", err
			}
			all = append(all, text)
		}
		return strings.Join(all, ","), nil
	case *ast.MappingValueNode:
		values, err := textOf(v.Value, inner)
		if err != nil {
			return "", err
		}
		all := strings.Split(values, ",")
		for i := range all {
			all[i] = v.Key.GetToken().Value + ":" + all[i]
		}
		return strings.Join(all, ","), nil
	}
	return textOf(n, inner)
}

// suggest names the setting that was perhaps meant, or where it belongs.
func suggest(flags *pflag.FlagSet, name string) string {
	everywhere, flag := Default(), strings.ReplaceAll(name, "_", "-")
	if flags.Lookup(flag) == nil && everywhere.Flags().Lookup(flag) != nil {
		if (&NamedUpstream{}).flags().Lookup(flag) != nil {
			return " here; it is one of upstreams, or of all"
		}
		return " here; it is one of all, outside of any list"
	}
	best := Nearest(flags, name)
	if best == "" {
		return "; `idemproxy config` prints them all"
	}
	return fmt.Sprintf("; did you mean %s?", keyOf(best))
}

// Nearest is the flag that was perhaps meant, empty if none is near.
func Nearest(flags *pflag.FlagSet, name string) (best string) {
	plain := func(s string) string {
		return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(s))
	}
	least := min(4, len(plain(name)))
	flags.VisitAll(func(f *pflag.Flag) {
		if d := distance(plain(name), plain(f.Name)); d < least {
			best, least = f.Name, d
		}
	})
	return best
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
