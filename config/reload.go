package config

import (
	"github.com/spf13/pflag"
)

// Reloadable says whether a setting can change while the proxy runs.
func Reloadable(setting string) bool {
	switch setting {
	case "max-in-flight", "max-buffered", "trusted-proxies", "drain-delay", "drain-timeout", "accept-orphans":
		return true
	}
	perhaps := pflag.NewFlagSet("", pflag.ContinueOnError)
	(&Rules{}).bind(perhaps)
	(&Upstream{}).bind(perhaps)
	return perhaps.Lookup(setting) != nil
}

// Careful says whether a change of a setting makes records be named, or requests be
// compared, in another way: retries of what was sent before may not meet their
// record, or be told that they are not the same.
func Careful(setting string) bool {
	switch setting {
	case "fingerprint", "bind", "scope", "earlier-scopes", "secret-file", "key-headers", "derive-key", "tls-client-ca",
		"namespace", "store":
		return true
	}
	return false
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
