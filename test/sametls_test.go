package test_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/internal/backend"
)

// origin is a backend that can be asked so.
func (d doubts) origin(t *testing.T) *origin {
	t.Helper()
	if d != receiptsAreAsked {
		return newOrigin(t)
	}
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "receipts.db")+"?_pragma=journal_mode(WAL)&_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	b, err := backend.WithReceipts(db)
	if err != nil {
		t.Fatal(err)
	}
	return serveOrigin(t, b)
}

// behindTLS is an https:// URL of what listens at addr, and the file of who vouches for it.
func behindTLS(t *testing.T, addr string) (url, roots string) {
	t.Helper()
	cert, key, _ := serverCertificate(t)
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go relay(c, addr)
		}
	}()
	return "https://" + ln.Addr().String(), cert
}

// relay carries the bytes of a connection to addr and back.
func relay(c net.Conn, addr string) {
	defer func() { _ = c.Close() }()
	to, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	var both sync.WaitGroup
	both.Go(func() {
		_, _ = io.Copy(to, c)
		_ = to.Close()
	})
	both.Go(func() {
		_, _ = io.Copy(c, to)
		_ = c.Close()
	})
	both.Wait()
}

// serverCertificate is a certificate of the service, its key, and who vouches for it.
func serverCertificate(t *testing.T) (cert, key string, roots *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{serviceHost}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key, roots = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), x509.NewCertPool()
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	roots.AppendCertsFromPEM(bytes.Clone(chain))
	writeText(t, cert, string(chain))
	writeText(t, key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})))
	return cert, key, roots
}
