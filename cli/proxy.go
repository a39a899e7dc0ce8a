package cli

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/internal/redact"
)

// target is the proxy that a command asks: the one that serve would be with the same
// environment and file, unless --admin names another.
type target struct {
	admin, tokenFile, file string
	from                   string // what named it; empty: nothing did
}

func (t *target) flags(c *cobra.Command) {
	c.Flags().StringVar(&t.admin, "admin", "", "admin address of a running proxy, host:port; without it, that of "+
		config.EnvPrefix+"ADMIN, of the file, or "+config.Default().Admin)
	c.Flags().StringVar(&t.tokenFile, "admin-token-file", "", "file with its token, if it wants one; without it, as above")
	c.Flags().StringVarP(&t.file, "config", "c", "", "YAML file of the settings that it runs with")
}

// Errors of finding a proxy.
var (
	errNoAdmin  = errors.New("by these settings the proxy has no admin listener (admin is empty)")
	errFreePort = errors.New("by these settings the proxy takes a free port: the line of its log with event started says which; " +
		"name it with --admin")
	errWhich = errors.New("nothing says which proxy is meant, and this would change its keys: name it with --admin, " +
		config.EnvPrefix + "ADMIN or -c FILE")
)

// find settles which proxy is asked.
func (t *target) find() error {
	if t.file == "" {
		t.file = os.Getenv(config.EnvPrefix + "CONFIG")
	}
	if t.admin != "" {
		t.from = "--admin"
		t.admin = strings.TrimSuffix(strings.TrimPrefix(t.admin, "http://"), "/") // as a browser has it
		if t.tokenFile == "" {
			t.tokenFile = os.Getenv(config.EnvPrefix + "ADMIN_TOKEN_FILE")
		}
		return nil
	}
	c := config.Default()
	_, inEnv := os.LookupEnv(config.EnvPrefix + "ADMIN")
	switch {
	case inEnv:
		t.from = config.EnvPrefix + "ADMIN"
	case t.file != "":
		t.from = t.file
	}
	if t.from != "" {
		flags := c.Flags()
		flags.String("config", "", "") // which the environment may name, too
		if _, err := config.Load(&c, flags, t.file, os.Environ()); err != nil && !t.guess(&c, inEnv) {
			return fmt.Errorf("which proxy is meant cannot be told; name it with --admin: %w", err)
		}
	}
	if t.tokenFile == "" {
		t.tokenFile = c.AdminTokenFile
	}
	if t.tokenFile == "" {
		t.tokenFile = os.Getenv(config.EnvPrefix + "ADMIN_TOKEN_FILE")
	}
	return t.at(c.Admin)
}

// guess takes the two settings that matter here from settings that have a mistake elsewhere: a
// proxy goes on running with the earlier ones after a wrong reload, and just then it is asked.
// It says whether there was an address.
func (t *target) guess(c *config.Config, inEnv bool) bool {
	text, err := os.ReadFile(t.file)
	if err != nil && t.file != "" {
		return false
	}
	found := inEnv
	if inEnv {
		c.Admin = os.Getenv(config.EnvPrefix + "ADMIN")
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		value, _, _ = strings.Cut(value, " #")
		value = strings.Trim(strings.TrimSpace(value), `"'`)
		switch {
		case name == "admin" && !inEnv:
			c.Admin, found = value, true
		case name == "admin_token_file":
			c.AdminTokenFile = value
		}
	}
	if _, _, err := net.SplitHostPort(c.Admin); err != nil {
		return false
	}
	return found
}

// at is an address that a proxy listens on, as one that can be connected to from here.
func (t *target) at(listens string) error {
	host, port, err := net.SplitHostPort(listens)
	switch {
	case listens == "":
		return fmt.Errorf("%s: %w", t.from, errNoAdmin)
	case err != nil:
		return fmt.Errorf("admin %s: %w", redact.Addr(listens), err)
	case port == "0":
		return fmt.Errorf("%s: %w", t.from, errFreePort)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	t.admin = net.JoinHostPort(host, port)
	return nil
}

// where is the admin address, as errors show it.
func (t *target) where() string { return redact.Addr(t.admin) }

// named is where, and what said so.
func (t *target) named() string {
	from := t.from
	if from == "" {
		from = "the default"
	}
	return fmt.Sprintf("%s (%s)", t.where(), from)
}

// isPerson says whether who types is asked, and can answer.
func isPerson(r io.Reader) bool {
	f, ok := r.(*os.File)
	return ok && isatty.IsTerminal(f.Fd())
}

// mayChange is asked before keys are changed: nil if that is wanted. A person on a terminal
// is asked, also about which proxy it is; nobody else is, so a proxy must have been named.
func (t *target) mayChange(c *cobra.Command, question string, yes bool) error {
	switch {
	case isPerson(c.InOrStdin()) && !yes:
		if !agreed(c, fmt.Sprintf("%s The proxy is %s.", question, t.named())) {
			return failure{errors.New("nothing was done")}
		}
		return nil
	case t.from == "":
		return fmt.Errorf("%w; %s is only the default", errWhich, t.where())
	}
	return nil
}
