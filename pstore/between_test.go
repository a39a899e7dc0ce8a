package pstore_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/internal/dbtest"
	"github.com/idemproxy/idemproxy/pstore"
)

// Through PgBouncer everything works in each mode; notifications in session mode
// only, and without them nothing is answered from memory.
func TestPgBouncer(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	// In transaction mode few, so that the statements of one client go over several.
	for mode, size := range map[string]int{"transaction": 3, "session": 100} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			url := "postgres://postgres@" + server.Bouncer(t, mode, size) + "/postgres?sslmode=disable&pool_max_conns=8"
			h := harness(func(testing.TB) opened { return opened{config: pstore.Config{URL: url}} })
			h.Claimants, h.Histories = 100, 3
			for _, c := range storetest.Cases() {
				switch c.Name {
				case "OneWinner", "Replay", "BatchPartly", "Mismatch", "Histories", "Registry", "Resolve":
					if err := c.Check(t, h); err != nil {
						t.Errorf("%s: %v", c.Name, err)
					}
				}
			}
			s := open(t, pstore.Config{URL: url, Timeout: 300 * time.Millisecond})
			c := completed(t, s, "k")
			if mode == "session" {
				cached(t, s, c)
				return
			}
			for end := time.Now().Add(2 * s.Leash()); time.Now().Before(end); {
				if acquire(t, s, c, idem.VerdictCompleted).Local || s.Heard() {
					t.Fatal("a replay is answered from memory, though no notification arrives")
				}
			}
		})
	}
}

// certificate writes a self-signed one for 127.0.0.1, and its key.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "postgres"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: encoded}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// With --store-ca the server is verified; another one's certificate is not believed.
func TestTLS(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	cert, key := certificate(t)
	server.Secure(cert, key)
	other, _ := certificate(t)
	url := "postgres://postgres@" + server.Addr + "/postgres" + conns
	s := open(t, pstore.Config{URL: url, CAFile: cert})
	completed(t, s, "k")
	if encrypted := server.Do("SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'idemproxy'"); encrypted != "t" {
		t.Error("a connection is not encrypted")
	}
	if _, err := pstore.Migrate(context.Background(), pstore.Config{URL: url, CAFile: other}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("another authority's certificate: %v", err)
	}
	for name, c := range map[string]struct {
		config pstore.Config
		want   error
	}{
		"no such file":        {pstore.Config{CAFile: "/none"}, pstore.ErrCA},
		"no certificate":      {pstore.Config{CAFile: key}, pstore.ErrCA},
		"without TLS":         {pstore.Config{URL: url + "&sslmode=disable", CAFile: cert}, pstore.ErrCA},
		"a certificate alone": {pstore.Config{CertFile: cert}, pstore.ErrCertificate},
		"a key alone":         {pstore.Config{KeyFile: key}, pstore.ErrKey},
	} {
		if c.config.URL == "" {
			c.config.URL = url
		}
		if err := c.config.Check(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}
