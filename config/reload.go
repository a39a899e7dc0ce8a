package config

import (
	"github.com/spf13/pflag"
)

// Reloadable says whether a setting can change while the proxy runs.
func Reloadable(setting string) bool {
	switch setting {
	case "max-in-flight", "max-buffered", "trusted-proxies", "drain-delay", "drain-timeout":
		return true
	}
	perhaps := pflag.NewFlagSet("", pflag.ContinueOnError)
	(&Rules{}).bind(perhaps)
	(&Upstream{}).bind(perhaps)
	return perhaps.Lookup(setting) != nil
}

// Fixed lists the settings that differ in other, and cannot change while the
// proxy runs.
func (c *Config) Fixed(other *Config) (changed []string) {
	mine, theirs := *c, *other // binding flags writes
	flags := theirs.Flags()
	mine.Flags().VisitAll(func(f *pflag.Flag) {
		if !Reloadable(f.Name) && f.Value.String() != flags.Lookup(f.Name).Value.String() {
			changed = append(changed, f.Name)
		}
	})
	return changed
}
