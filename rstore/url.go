package rstore

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/idemproxy/idemproxy/internal/redact"
)

// Errors of a URL. They show nothing of it: what rueidis.ParseURL says of one has
// parts of it, which may be a password's.
var (
	errScheme   = errors.New("want redis://host:port/db, rediss://host:port/db or unix:///path")
	errDatabase = errors.New("want the number of a database after the host, and nothing else: redis://host:port/0")
	errAddress  = errors.New("want host:port, and the same in each addr=, with a port from 1 to 65535")
)

// parseURL is rueidis.ParseURL, except that it takes no URL that can be read in two
// ways, such as one whose password has a slash.
func parseURL(raw string) (rueidis.ClientOption, error) {
	if scheme, rest, _ := strings.Cut(raw, ":"); isRedis(scheme) && !strings.HasPrefix(rest, "//") {
		return rueidis.ClientOption{}, errScheme
	}
	u, err := redact.Parse(raw)
	if err == nil && !redact.Certain(raw) {
		err = redact.ErrUnreadable
	}
	if err == nil {
		err = checkPlace(u)
	}
	if err == nil {
		err = checkQuery(u)
	}
	if err != nil {
		return rueidis.ClientOption{}, err
	}
	option, err := rueidis.ParseURL(raw)
	if err != nil {
		return option, redact.ErrUnreadable // nothing is known that gets here
	}
	return option, checkAddresses(u, option.InitAddress)
}

// checkPlace looks at where the server is, and its database.
func checkPlace(u *url.URL) error {
	switch {
	case u.Scheme == "unix":
		if strings.TrimSpace(u.Path) == "" {
			return errScheme
		}
		return nil
	case !isRedis(u.Scheme):
		return errScheme
	}
	if path, has := strings.CutPrefix(u.Path, "/"); has {
		if !isNumber(path) {
			return errDatabase
		}
	}
	return nil
}

// isRedis says whether a URL of this scheme names a server, and not a socket's file.
func isRedis(scheme string) bool {
	return slices.Contains([]string{"redis", "rediss", "valkey", "valkeys"}, strings.ToLower(scheme))
}

// checkQuery looks at the values that have a form.
func checkQuery(u *url.URL) error {
	q := u.Query()
	if q.Has("db") && !isNumber(q.Get("db")) {
		return errors.New("db= in its query: want the number of a database")
	}
	for _, name := range []string{"dial_timeout", "write_timeout"} {
		if _, err := time.ParseDuration(q.Get(name)); q.Has(name) && err != nil {
			return fmt.Errorf("%s= in its query: want a time, such as 500ms", name)
		}
	}
	if u.Scheme != "rediss" && u.Scheme != "valkeys" {
		return nil
	}
	if _, err := strconv.ParseBool(q.Get("skip_verify")); q.Get("skip_verify") != "" && err != nil {
		return errors.New("skip_verify= in its query: want true or false")
	}
	return nil
}

func isNumber(s string) bool {
	_, err := strconv.Atoi(s)
	return err == nil
}

// checkAddresses looks at ports, which would be found wrong at each attempt to
// connect only.
func checkAddresses(u *url.URL, addrs []string) error {
	if u.Scheme == "unix" {
		return nil
	}
	for _, addr := range u.Query()["addr"] {
		if strings.Count(addr, ":") > 1 && !strings.HasPrefix(addr, "[") {
			return errAddress // rueidis would take it for the host of the URL
		}
	}
	for _, addr := range addrs {
		if _, port, err := net.SplitHostPort(addr); err != nil || !isPort(port) {
			return errAddress
		}
	}
	return nil
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}
