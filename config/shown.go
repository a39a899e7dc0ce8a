package config

import (
	"slices"
	"strconv"
	"strings"

	"github.com/idemproxy/idemproxy/internal/redact"
)

// shown is a setting's value without what may be a secret. A URL may stand where
// none belongs: it was meant for another setting.
func shown(setting, value string) string {
	switch setting {
	case "store", "otlp", "resolver":
		return redact.URL(value)
	case "jwks":
		return redact.Place(value)
	case "health-path":
		return redact.Path(value)
	case "admin":
		return redact.Addr(value)
	}
	return redact.Text(value)
}

// shownList is shown for a setting that is a list.
func shownList(setting string, values []string) []string {
	if setting == "backend" {
		return redact.URLs(values)
	}
	all := make([]string, 0, len(values))
	for _, value := range values {
		if setting == "listen" && !strings.HasPrefix(value, "unix:/") {
			value = redact.Addr(value)
		}
		all = append(all, redact.Text(value))
	}
	return all
}

// text and texts are values of settings that errors quote, as shown.
type (
	text  string
	texts []string
)

func (t text) shown(setting string) string { return strconv.Quote(shown(setting, string(t))) }

func (t texts) shown(setting string) string {
	return strconv.Quote(strings.Join(shownList(setting, t), ","))
}

// mend says how a URL is written that is not shown since it cannot be read.
func mend(setting string, values ...string) string {
	isURL := slices.Contains([]string{"store", "otlp", "backend"}, setting)
	if isURL && slices.ContainsFunc(values, func(s string) bool { return strings.Contains(s, "@") && !redact.Certain(s) }) {
		return "; " + redact.Mend
	}
	return ""
}
