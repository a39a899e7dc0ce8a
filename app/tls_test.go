package app_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// authority issues certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t, cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// issue makes a certificate for 127.0.0.1 with a name, and its key. A name with an @
// is that of the test, with this address besides.
func (a *authority) issue(name string, serial int64) (cert, key []byte) {
	a.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	var addresses []string
	if strings.Contains(name, "@") {
		name, addresses = "test", []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"}, EmailAddresses: addresses,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, &private.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// client trusts the authority, and shows a certificate of its own if it has one.
func (a *authority) client(name string, serial int64) *http.Client {
	a.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	c := &tls.Config{RootCAs: roots, ServerName: "localhost", MinVersion: tls.VersionTLS12}
	if name != "" {
		pair, err := tls.X509KeyPair(a.issue(name, serial))
		if err != nil {
			a.t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}, Timeout: 10 * time.Second}
}

func ask(t *testing.T, c *http.Client, url, key string) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url+"/pay", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Idempotency-Key", key)
	resp, err := c.Do(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	return resp, err
}

// A renewed certificate is shown to new connections without a restart; one that
// cannot be used is not, and the log says why.
func TestTLSReload(t *testing.T) {
	t.Parallel()
	ca, dir := newAuthority(t), t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write := func(cert, key []byte) {
		for file, text := range map[string][]byte{certFile: cert, keyFile: key} {
			if err := os.WriteFile(file, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(ca.issue("first", 1))
	var proto string
	b := backendtest.Start(t, func(c backendtest.Conn, q *backendtest.Request) {
		proto = q.Header.Get("X-Forwarded-Proto")
		backendtest.OK(c, q)
	})
	a, logged := run(t, zerolog.InfoLevel, b.URL(), func(c *config.Config) { c.TLSCert, c.TLSKey = certFile, keyFile })
	shown := func() string {
		resp, err := ask(t, ca.client("", 0), a.URL(), "k")
		if err != nil {
			t.Fatal(err)
		}
		return resp.TLS.PeerCertificates[0].Subject.CommonName
	}
	if name := shown(); name != "first" || !strings.HasPrefix(a.URL(), "https://") || proto != "https" {
		t.Errorf("%s, %s, %s", name, a.URL(), proto)
	}
	write(ca.issue("second", 2))
	a.LookAtCertificates()
	if name := shown(); name != "second" {
		t.Errorf("after the renewal: %s", name)
	}
	cert, _ := ca.issue("third", 3)
	write(cert, []byte("no key"))
	a.LookAtCertificates()
	a.LookAtCertificates()
	if name := shown(); name != "second" {
		t.Errorf("after a renewal that went wrong: %s", name)
	}
	if text := logged.text(); strings.Count(text, "tls_reloaded") != 1 || strings.Count(text, "tls_reload_failed") != 1 {
		t.Errorf("the log:\n%s", text)
	}
}

// Only certificates of the authority are let in, and whom they name is who asks:
// a key is not another client's, and still the client's own after a renewal.
func TestTLSClients(t *testing.T) {
	t.Parallel()
	ca, stranger, dir := newAuthority(t), newAuthority(t), t.TempDir()
	var files []string
	cert, key := ca.issue("server", 1)
	for i, text := range [][]byte{cert, key, ca.pem} {
		files = append(files, filepath.Join(dir, string(rune('a'+i))))
		if err := os.WriteFile(files[i], text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b := backendtest.Start(t, backendtest.OK)
	a, _ := run(t, zerolog.InfoLevel, b.URL(), func(c *config.Config) { c.TLSCert, c.TLSKey, c.TLSClientCA = files[0], files[1], files[2] })
	other := stranger.client("alice", 2)
	other.Transport.(*http.Transport).TLSClientConfig.RootCAs.AddCert(ca.cert) //nolint:forcetypeassert // ours
	for name, c := range map[string]*http.Client{"no certificate": ca.client("", 0), "a stranger's": other} {
		if resp, err := ask(t, c, a.URL(), "k"); err == nil {
			t.Errorf("%s: %d", name, resp.StatusCode)
		}
	}
	for _, c := range []struct {
		name     string
		serial   int64
		status   int
		replayed string
	}{{"alice", 3, 200, ""}, {"alice", 4, 200, "true"}, {"bob", 5, 422, ""}} {
		resp, err := ask(t, ca.client(c.name, c.serial), a.URL(), "k")
		if err != nil || resp.StatusCode != c.status || resp.Header.Get("Idempotent-Replayed") != c.replayed {
			t.Errorf("%v: %v, %v", c, resp, err)
		}
	}
	if n := b.Executions("k"); n != 1 {
		t.Errorf("%d executions", n)
	}
	// Two that differ by their address alone are two.
	for _, c := range []struct {
		name     string
		status   int
		replayed string
	}{{"a@x.example", 200, ""}, {"b@x.example", 422, ""}, {"a@x.example", 200, "true"}, {"test", 422, ""}} {
		resp, err := ask(t, ca.client(c.name, 6), a.URL(), "by address")
		if err != nil || resp.StatusCode != c.status || resp.Header.Get("Idempotent-Replayed") != c.replayed {
			t.Errorf("%v: %v, %v", c, resp, err)
		}
	}
}

func TestTLSFilesThatCannotBe(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	cert, key := ca.issue("x", 1)
	_, otherKey := ca.issue("y", 2)
	for _, c := range []struct {
		name            string
		cert, key, peer []byte
		want            string
	}{
		{"another's key", cert, otherKey, nil, "tls_cert"},
		{"nonsense", []byte("x"), key, nil, "tls_cert"},
		{"no authority", cert, key, []byte("x"), "tls_client_ca: there is no certificate in the file"},
		{"no key", cert, nil, nil, "tls_key"},
	} {
		dir := t.TempDir()
		file := func(name string, text []byte) string {
			path := filepath.Join(dir, name)
			if text != nil {
				if err := os.WriteFile(path, text, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			return path
		}
		text := "tls_cert: " + file("cert", c.cert) + "\ntls_key: " + file("key", c.key) + "\n"
		if c.peer != nil {
			text += "tls_client_ca: " + file("peer", c.peer) + "\n"
		}
		if code, out := command(t, "check", "-c", writeFile(t, text)); code != 2 || !strings.Contains(out, c.want) || !strings.Contains(out, "idemproxy.yaml:") {
			t.Errorf("%s: %d %s", c.name, code, out)
		}
	}
	for setting, want := range map[string]string{"--tls-cert": "--tls-key: want", "--tls-key": "--tls-cert: want", "--tls-client-ca": "--tls-cert: want"} {
		if code, out := command(t, "check", setting, "/nonexistent"); code != 2 || !strings.Contains(out, want) {
			t.Errorf("%s alone: %d %s", setting, code, out)
		}
	}
}

// Who speaks plain HTTP to a port of TLS is told so, as nginx and Go's own server do.
func TestPlainHTTPToTLS(t *testing.T) {
	t.Parallel()
	ca, dir := newAuthority(t), t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	cert, key := ca.issue("name", 1)
	for file, text := range map[string][]byte{certFile: cert, keyFile: key} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b := backendtest.Start(t, backendtest.OK)
	a, logged := run(t, zerolog.InfoLevel, b.URL(), func(c *config.Config) { c.TLSCert, c.TLSKey = certFile, keyFile })
	plain := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := plain.Post(strings.Replace(a.URL(), "https://", "http://", 1)+"/pay", "text/plain", strings.NewReader(strings.Repeat("x", 100<<10)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusBadRequest || !strings.Contains(string(text), "use https://") {
		t.Errorf("%d %s %v", resp.StatusCode, text, err)
	}
	id := resp.Header.Get("X-Request-Id")
	logged.await(t, `"request_id":"`+id+`","error":"this port speaks TLS, and plain HTTP came: use https://"`)
}
