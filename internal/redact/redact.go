// Package redact shows URLs without what may be a secret: user names, passwords,
// queries, and all of a URL that can be read in two ways. Whoever prints, logs or
// reports a setting that is a URL, or an error about one, does so through here.
package redact

import (
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Hidden stands for what is not shown.
const Hidden = "***"

// Mend says how passwords are written that make a URL unreadable.
const Mend = "in a user name or password, write %40 for @, %3A for :, %2F for /, %3F for ?, %23 for # and %25 for %"

// ErrUnreadable is of a URL that cannot be read, or not for certain.
var ErrUnreadable = errors.New("the URL cannot be read (it is not shown, since it may hold a password): " + Mend)

// Parse is url.Parse, whose errors show parts of what they are about: this one's
// does not.
func Parse(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, ErrUnreadable
	}
	return u, nil
}

// Certain says whether it is clear what in a URL is a secret: there is no @ where
// an unescaped /, ? or # of a password may have put it, and nothing after a #.
func Certain(raw string) bool {
	_, certain := show(raw)
	return certain
}

// URL shows a URL without user name, password and query; of the query, it shows
// what Redis's and PostgreSQL's URLs may have there. Of a URL that is not Certain it shows the
// scheme. What stands before an @, or after a ? or #, is never shown, except in
// the names of directories and unix sockets.
func URL(raw string) string {
	shown, _ := show(raw)
	return shown
}

// Place is URL for what may be the name of a file as well.
func Place(raw string) string {
	if raw == "" || isFile(raw) {
		return raw
	}
	return URL(raw)
}

// Path shows a URL's path without its query.
func Path(raw string) string {
	if !strings.HasPrefix(raw, "/") {
		return Place(raw)
	}
	if at := strings.IndexAny(raw, "?#"); at >= 0 {
		return raw[:at] + "?" + Hidden
	}
	return raw
}

// Text is for what should be no URL, but may be one that somebody put in the wrong
// place.
func Text(raw string) string {
	if schemeOf(raw) != "" || strings.Contains(raw, "://") && strings.ContainsAny(raw, "@?#") {
		return URL(raw)
	}
	return raw
}

// Addr is for host:port.
func Addr(raw string) string {
	if strings.Contains(raw, "@") {
		return Hidden
	}
	return Text(raw)
}

// URLs is URL for a list that was written with commas, one of which may have been
// a password's: then it shows none of them.
func URLs(raws []string) []string {
	shown, begun := make([]string, 0, len(raws)), false
	for _, raw := range raws {
		text, certain := show(raw)
		if schemeOf(raw) == "" && (begun || !certain) {
			return []string{Hidden}
		}
		begun = begun || !isPlain(raw)
		shown = append(shown, text)
	}
	return shown
}

// schemeOf is one that settings have. The scheme of another URL may be a part of
// a password.
func schemeOf(raw string) string {
	scheme, _, _ := strings.Cut(raw, ":")
	switch scheme = strings.ToLower(scheme); scheme {
	case "redis", "rediss", "valkey", "valkeys", "unix", "postgres", "postgresql", "http", "https":
		return scheme
	}
	return ""
}

func show(raw string) (shown string, certain bool) {
	if raw == "" || strings.HasPrefix(raw, "embedded:") && !strings.HasPrefix(raw, "embedded://") {
		return raw, true // embedded:DIR
	}
	if isHarmless(raw) {
		return raw, true
	}
	scheme := schemeOf(raw)
	if scheme == "" {
		return Hidden, false
	}
	if u, err := url.Parse(raw); err != nil || u.Scheme != scheme || u.Opaque != "" || strings.Contains(raw, "#") {
		return scheme + "://" + Hidden, false
	}
	rest, query, hasQuery := strings.Cut(raw[len(scheme)+1:], "?")
	start, authority, path := "", "", rest
	if after, ok := strings.CutPrefix(rest, "//"); ok {
		start = "//"
		slash := strings.IndexByte(after+"/", '/')
		authority, path = after[:slash], after[slash:]
	}
	switch socket := scheme == "unix" && authority == "" && isFile(path); {
	case strings.Contains(query, "@"), strings.Contains(path, "@") && !socket, start == "" && path != "" && !socket:
		return scheme + "://" + Hidden, false
	}
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		authority = Hidden + authority[at:]
	}
	shown = scheme + ":" + start + authority + path
	if hasQuery {
		shown += "?" + showQuery(scheme, query)
	}
	return shown, true
}

// isPlain: nothing in it ends credentials, or starts a query or a fragment.
func isPlain(s string) bool { return !strings.ContainsAny(s, "@?#") }

// isHarmless: a word, a path, host:port, also with a path, or a URL of others' with none of
// what is hidden.
func isHarmless(raw string) bool {
	before, after, has := strings.Cut(raw, ":")
	switch scheme := schemeOf(raw); {
	case !isPlain(raw):
		return false
	case !has:
		return true
	case scheme == "unix":
		return !strings.Contains(after, ":")
	case scheme != "":
		return false
	case strings.HasPrefix(after, "//"):
		_, err := url.Parse(raw)
		return err == nil
	}
	port, _, _ := strings.Cut(after, "/")
	return port != "" && !strings.Contains(before, "/") &&
		!strings.ContainsFunc(port, func(c rune) bool { return c < '0' || c > '9' })
}

// isFile: it is the name of a file. An @ may be in one, but not where a URL would
// have it that lacks its scheme or a slash.
func isFile(name string) bool {
	if strings.HasPrefix(name, "//") || strings.ContainsAny(name, "?#") {
		return false
	}
	before, after, has := strings.Cut(name, "@")
	if !has {
		return strings.HasPrefix(name, "/") || !strings.Contains(name, ":")
	}
	return strings.HasPrefix(name, "/") && strings.Count(before, "/") > 1 && !strings.Contains(before, ":") &&
		!strings.Contains("@"+after, "@/")
}

// showQuery shows what rueidis.ParseURL knows, or PostgreSQL's URLs commonly have; of a name that it does not know,
// the name neither: it may be what followed an & in a password.
func showQuery(scheme, query string) string {
	var shown []string
	hidden := false
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if strings.HasPrefix(scheme, "http") || !isParameter(name, value) {
			hidden = true
			continue
		}
		shown = append(shown, pair)
	}
	if hidden {
		shown = append(shown, Hidden)
	}
	return strings.Join(shown, "&")
}

// isParameter: a parameter of a Redis or PostgreSQL URL, with a value of the kind that it has.
func isParameter(name, value string) bool {
	switch name {
	case "db", "protocol", "client_cache", "max_retries", "pool_max_conns", "connect_timeout":
		return len(value) <= 6 && !strings.ContainsFunc(value, func(c rune) bool { return c < '0' || c > '9' })
	case "dial_timeout", "write_timeout":
		_, err := time.ParseDuration(value)
		return err == nil
	case "skip_verify":
		return slices.Contains([]string{"", "0", "1", "true", "false"}, value)
	case "addr", "master_set", "client_name", "sslmode", "target_session_attrs", "application_name":
		return !strings.ContainsFunc(value, func(c rune) bool {
			return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("._:[]-", c)
		})
	}
	return false
}
