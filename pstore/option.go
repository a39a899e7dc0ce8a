package pstore

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/idemproxy/idemproxy/internal/redact"
)

// Errors of a Config: which of its fields they are about. An error that is none of
// them is about the URL.
var (
	ErrCA          = errors.New("the CA certificates")
	ErrCertificate = errors.New("the certificate for PostgreSQL")
	ErrKey         = errors.New("the key of the certificate for PostgreSQL")
	ErrSchema      = errors.New("the schema's name")
)

var (
	errScheme   = errors.New("want postgres://user:password@host:port/database, with further hosts as host1:port,host2:port")
	errSettings = errors.New("one of its parts, or of the environment's PG* variables, is not what PostgreSQL's URLs may have; " +
		"docs/postgres.md lists them")
	errPlain = errors.New("sslmode=disable: they are for TLS only")
)

// maxSchema leaves room for what names of channels have besides.
const maxSchema = 40

// defaultConns is how many connections a process has at most, unless the URL says.
// Commits of several share one flush of the server's log; more than this gains
// nothing on one disk, and takes what others need of max_connections.
const defaultConns = 16

// Check is what New says of a configuration, without making a store.
func (c *Config) Check() error {
	copied := *c // which the defaults are filled into
	_, err := copied.option()
	return err
}

func (c *Config) option() (*pgxpool.Config, error) {
	if c.Timeout <= 0 {
		c.Timeout = 2 * time.Second
	}
	if c.CacheBytes <= 0 {
		c.CacheBytes = 64 << 20
	}
	if c.Schema == "" {
		c.Schema = "idemproxy"
	}
	if c.lookEvery <= 0 {
		c.lookEvery = lookEvery
	}
	if err := checkSchema(c.Schema); err != nil {
		return nil, err
	}
	raw, err := c.address()
	if err != nil {
		return nil, err
	}
	option, err := pgxpool.ParseConfig(raw)
	if err != nil {
		return nil, fmt.Errorf("the PostgreSQL URL: %w", errSettings) // what pgx says has parts of it
	}
	if err := c.certify(option.ConnConfig); err != nil {
		return nil, err
	}
	c.tune(option, raw)
	return option, nil
}

// tune sets what is not the operator's to choose, and what he has not chosen.
func (c *Config) tune(option *pgxpool.Config, raw string) {
	if !strings.Contains(raw, "pool_max_conns=") {
		option.MaxConns = defaultConns
	}
	// An idle connection is looked at, not asked: see isOpen.
	option.ShouldPing = neverPing
	option.PrepareConn = isOpen
	option.BeforeClose = letGo
	conn := option.ConnConfig
	if conn.ConnectTimeout <= 0 {
		conn.ConnectTimeout = max(c.Timeout, handshakeAtMost)
	}
	if conn.ValidateConnect == nil { // target_session_attrs was not given
		conn.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	if conn.RuntimeParams["application_name"] == "" {
		conn.RuntimeParams["application_name"] = "idemproxy"
	}
	// No named statements: whatever pools connections in between can take them apart.
	conn.DefaultQueryExecMode = pgx.QueryExecModeExec
	conn.StatementCacheCapacity, conn.DescriptionCacheCapacity = 0, 0
	conn.OnNotice = onNotice
}

func checkSchema(name string) error {
	if len(name) > maxSchema || strings.ContainsFunc(name, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_'
	}) || strings.HasPrefix(name, "pg_") {
		return fmt.Errorf("%w %q: want at most %d of a-z, 0-9 and _, and not pg_ in front", ErrSchema, name, maxSchema)
	}
	return nil
}

// address is the URL with the certificates' authority.
func (c *Config) address() (string, error) {
	u, err := redact.Parse(c.URL)
	switch {
	case err == nil && !redact.Certain(c.URL):
		err = redact.ErrUnreadable
	case err == nil && (u.Scheme != "postgres" && u.Scheme != "postgresql" || !strings.HasPrefix(c.URL[len(u.Scheme):], "://")):
		err = errScheme
	}
	if err != nil {
		return "", fmt.Errorf("the PostgreSQL URL: %w", err)
	}
	query := u.Query()
	if c.CAFile == "" {
		return c.URL, nil
	}
	if query.Get("sslmode") == "disable" {
		return "", fmt.Errorf("%w: %w", ErrCA, errPlain)
	}
	pem, err := os.ReadFile(c.CAFile)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrCA, err)
	}
	if !strings.Contains(string(pem), "-----BEGIN CERTIFICATE-----") {
		return "", fmt.Errorf("%w: there is none in %s", ErrCA, c.CAFile)
	}
	added := "sslrootcert=" + url.QueryEscape(c.CAFile)
	if !query.Has("sslmode") { // who names authorities wants them to be believed, and nobody else
		added += "&sslmode=verify-full"
	}
	raw := c.URL
	switch {
	case u.RawQuery != "":
		raw += "&"
	case !strings.HasSuffix(raw, "?"):
		raw += "?"
	}
	return raw + added, nil
}

// certify has the server be shown a certificate.
func (c *Config) certify(option *pgx.ConnConfig) error {
	switch {
	case c.CertFile == "" && c.KeyFile == "":
		return nil
	case c.KeyFile == "":
		return fmt.Errorf("%w: it and its key go together, and that is missing", ErrCertificate)
	case c.CertFile == "":
		return fmt.Errorf("%w: it and the certificate go together, and that is missing", ErrKey)
	}
	// Read once here, so that what cannot be used is said at the start, and then
	// for each connection: certificates are replaced while the process runs.
	if _, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile); err != nil {
		return fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	cert, key, secured := c.CertFile, c.KeyFile, false
	get := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCertificate, err)
		}
		return &pair, nil
	}
	if option.TLSConfig != nil {
		option.TLSConfig.GetClientCertificate, secured = get, true
	}
	for _, other := range option.Fallbacks {
		if other.TLSConfig != nil {
			other.TLSConfig.GetClientCertificate, secured = get, true
		}
	}
	if !secured {
		return fmt.Errorf("%w: %w", ErrCertificate, errPlain)
	}
	return nil
}
