package config

import (
	"slices"
	"strconv"
	"strings"

	"github.com/idemproxy/idemproxy/internal/redact"
)

// showing is how the values of a setting are shown without what may be a secret.
type showing func(values []string) []string

func each(show func(string) string) showing {
	return func(values []string) []string {
		all := make([]string, 0, len(values))
		for _, value := range values {
			all = append(all, show(value))
		}
		return all
	}
}

// plainly is for what is no URL. One may stand there that was meant for another
// setting.
func plainly() showing { return each(redact.Text) }

// placeOf is an address, of this machine or of a file.
func placeOf(value string) string {
	if !strings.HasPrefix(value, "unix:/") {
		value = redact.Addr(value)
	}
	return redact.Text(value)
}

// showings are those of all settings, by name; what is not in it is shown plainly.
type showings map[string]showing

func newShowings() showings {
	all := showings{}
	for _, l := range settings() {
		if a := l.about(); a.shows != nil {
			all[a.name] = a.shows
		}
	}
	return all
}

func (all showings) of(setting string, values ...string) []string {
	if show, ok := all[setting]; ok {
		return show(values)
	}
	return plainly()(values)
}

// quoted are values that an error quotes, as shown.
type quoted struct {
	values []string
	shows  showing
	areURL bool
}

func plain(value string) quoted { return quoted{values: []string{value}, shows: plainly()} }

// String implements fmt.Stringer.
func (q quoted) String() string { return strconv.Quote(strings.Join(q.shows(q.values), ",")) }

// mend says how a URL is written that is not shown since it cannot be read.
func (q quoted) mend() string {
	if q.areURL && slices.ContainsFunc(q.values, func(s string) bool { return strings.Contains(s, "@") && !redact.Certain(s) }) {
		return "; " + redact.Mend
	}
	return ""
}
