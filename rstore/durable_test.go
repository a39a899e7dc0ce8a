package rstore_test

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
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// What too few replicas have does not count, and is not left behind.
func TestWaitReplicas(t *testing.T) {
	t.Parallel()
	primary := redistest.Start(t)
	replica := redistest.Replica(t, primary)
	s := open(t, rstore.Config{URL: primary.URL(), WaitReplicas: 1, Timeout: time.Second})
	c := completed(t, s, "both have it")
	running := claim("running")
	acquire(t, s, running, idem.VerdictAcquired)
	owned, doubted := claim("owned"), claim("doubted")
	for _, c := range []idem.Claim{owned, doubted} {
		if _, err := s.Acquire(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}

	replica.Kill()
	if out := acquire(t, s, c, idem.VerdictCompleted); string(out.Response.Body) != "both have it" {
		t.Errorf("a replay needs no replica, but got %q", out.Response.Body)
	}
	e := idem.NewEngine(idem.Config{Store: s})
	defer e.Close(context.Background())
	policy := idem.DefaultPolicy()
	refused := claim("refused").Key
	if _, attempt, err := e.Begin(t.Context(), idem.Request{Key: refused, Policy: &policy}); attempt != nil || !errors.Is(err, idem.ErrUnavailable) {
		t.Errorf("begin without a replica: %v, %v", attempt, err)
	}
	if err := s.Complete(t.Context(), owned.Lease(), &idem.Response{Status: 200}); !errors.Is(err, idem.ErrUnavailable) {
		t.Errorf("complete without a replica: %v", err)
	}
	if err := s.Hold(t.Context(), doubted.Lease()); !errors.Is(err, idem.ErrUnavailable) {
		t.Errorf("hold without a replica: %v", err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, err := s.Get(t.Context(), refused); errors.Is(err, idem.ErrNotFound) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the refused key was left locked")
		}
	}
	replica.Restart()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if err := s.Complete(t.Context(), owned.Lease(), &idem.Response{Status: 200}); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("complete with the replica back: %v", err)
		}
	}
	fresh := claim("new")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) { // it may still be synchronising
		if out, err := s.Acquire(t.Context(), fresh); err == nil {
			if out.Kind != idem.VerdictAcquired && out.Kind != idem.VerdictYours {
				t.Errorf("acquire with the replica back: %v", out.Kind)
			}
			break
		} else if !errors.Is(err, idem.ErrUnavailable) || time.Now().After(deadline) {
			t.Fatalf("acquire with the replica back: %v", err)
		}
	}
}

// The primary dies: a Sentinel names another, which has what was replicated.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	url, primary, _ := redistest.Sentinels(t)
	s := open(t, rstore.Config{URL: url, WaitReplicas: 1})
	c := completed(t, s, "before")
	held := claim("in progress")
	if _, err := s.Acquire(t.Context(), held); err != nil {
		t.Fatal(err)
	}
	primary.Kill()
	waiting := open(t, rstore.Config{URL: url}) // the new primary has no replica yet
	var out idem.Outcome
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		again := c
		again.Owner = idem.NewOwner()
		var err error
		if out, err = waiting.Acquire(t.Context(), again); err == nil {
			break
		} else if !errors.Is(err, idem.ErrUnavailable) || time.Now().After(deadline) {
			t.Fatalf("during the failover: %v", err)
		}
	}
	if out.Kind != idem.VerdictCompleted || string(out.Response.Body) != "before" {
		t.Errorf("after the failover: %v", out.Kind)
	}
	acquire(t, waiting, held, idem.VerdictInProgress)
	if err := waiting.Complete(t.Context(), held.Lease(), &idem.Response{Status: 200, Body: []byte("after")}); err != nil {
		t.Errorf("completing after the failover: %v", err)
	}
	acquire(t, waiting, claim("new"), idem.VerdictAcquired)
}

type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// copy is what was written so far.
func (l *lines) copy() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lines) await(t *testing.T, want string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		l.mu.Lock()
		text := l.text.String()
		l.mu.Unlock()
		if strings.Contains(text, want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %q in the log:\n%s", want, text)
		}
	}
}

func (l *lines) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Reset()
}

func (l *lines) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), what)
}

// What breaks the promise is said at the start.
func TestSettingsAreChecked(t *testing.T) {
	t.Parallel()
	primary, replicated := redistest.Start(t), redistest.Start(t)
	redistest.Replica(t, replicated)
	few := redistest.Start(t, "--appendfsync", "everysec", "--user", "proxy", "on", ">word", "~idem:*", "resetchannels", "-@all",
		"+hello", "+client", "+ping", "+select", "+script|load", "+config|get", "+info")
	var out lines
	open(t, rstore.Config{URL: "redis://proxy:word@" + few.Addr + "/0", Logger: zerolog.New(&out)})
	out.await(t, `"setting":"appendfsync","value":"everysec"`)
	for want, c := range map[string]struct {
		server *redistest.Server
		wait   int
	}{
		`more replicas than wait-replicas`:                   {replicated, 0},
		`"setting":"maxmemory-policy","value":"allkeys-lru"`: {redistest.Start(t, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"), 0},
		`nothing is kept across a restart`:                   {redistest.Start(t, "--appendonly", "no"), 0},
		`loses all since the last snapshot`:                  {redistest.Start(t, "--appendonly", "no", "--save", "60 1"), 0},
		`"setting":"appendfsync","value":"everysec"`:         {redistest.Start(t, "--appendfsync", "everysec"), 0},
		`this is a replica`:                                  {redistest.Replica(t, primary), 0},
		`fewer replicas than wait-replicas`:                  {redistest.Start(t), 1},
		`"event":"store_unchecked"`:                          {redistest.Start(t, "--rename-command", "CONFIG", ""), 0},
	} {
		var out lines
		open(t, rstore.Config{URL: c.server.URL(), WaitReplicas: c.wait, Logger: zerolog.New(&out)})
		out.await(t, want)
	}
}

// Every way to name a server is tried on one.
func TestURLs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := certificate(t, dir)
	tlsPort := redistest.FreePort(t)
	tlsAddr := net.JoinHostPort("127.0.0.1", big.NewInt(int64(tlsPort)).String())
	strictPort := redistest.FreePort(t)
	strictAddr := net.JoinHostPort("127.0.0.1", big.NewInt(int64(strictPort)).String())
	key := filepath.Join(dir, "key.pem")
	socket := filepath.Join(dir, "redis.sock")
	server := redistest.Start(t, "--unixsocket", socket, "--tls-port", big.NewInt(int64(tlsPort)).String(),
		"--tls-cert-file", ca, "--tls-key-file", key, "--tls-ca-cert-file", ca, "--tls-auth-clients", "optional",
		"--user", "proxy", "on", ">pass:word", "~idem:*", "resetchannels", "-@all", "+evalsha", "+eval", "+evalsha_ro", "+eval_ro",
		"+get", "+getrange", "+set", "+pttl", "+time", "+del", "+scan", "+hello", "+client", "+ping", "+select", "+script|load")
	redistest.Start(t, "--tls-port", big.NewInt(int64(strictPort)).String(),
		"--tls-cert-file", ca, "--tls-key-file", key, "--tls-ca-cert-file", ca, "--tls-auth-clients", "yes")
	mutual := "rediss://" + strictAddr + "/0"
	for name, c := range map[string]rstore.Config{
		"socket":                 {URL: "unix://" + socket},
		"a database":             {URL: "redis://" + server.Addr + "/3"},
		"TLS":                    {URL: "rediss://" + tlsAddr + "/0", CAFile: ca},
		"TLS, not verified":      {URL: "rediss://" + tlsAddr + "/0?skip_verify=true"},
		"a client certificate":   {URL: mutual, CAFile: ca, CertFile: ca, KeyFile: key},
		"a user with few rights": {URL: "redis://proxy:pass%3Aword@" + server.Addr + "/0"},
	} {
		c.Namespace = "idem"
		s := open(t, c)
		completed(t, s, name)
		held := claim(name + ", held")
		acquire(t, s, held, idem.VerdictAcquired)
		if err := s.Purge(t.Context(), held.Key); err != nil {
			t.Errorf("%s: purge: %v", name, err)
		}
		if err := s.List(t.Context(), func(*idem.Record) bool { return true }); err != nil {
			t.Errorf("%s: list: %v", name, err)
		}
		if err := s.Ping(t.Context()); err != nil {
			t.Errorf("%s: ping: %v", name, err)
		}
	}
	for name, c := range map[string]rstore.Config{
		"a CA without TLS":              {URL: server.URL(), CAFile: ca},
		"no such CA":                    {URL: "rediss://" + tlsAddr, CAFile: "/nonexistent"},
		"no certificate":                {URL: "rediss://" + tlsAddr, CAFile: key},
		"a certificate without TLS":     {URL: server.URL(), CertFile: ca, KeyFile: key},
		"a certificate without its key": {URL: mutual, CertFile: ca},
		"a key without its certificate": {URL: mutual, KeyFile: key},
		"a key that is none":            {URL: mutual, CertFile: ca, KeyFile: ca},
	} {
		if s, err := rstore.New(c); err == nil {
			_ = s.Close()
			t.Errorf("%s was taken", name)
		}
	}
	s := open(t, rstore.Config{URL: "rediss://" + tlsAddr + "/0"}) // the system does not know this CA
	if err := s.Ping(t.Context()); !errors.Is(err, idem.ErrUnavailable) {
		t.Errorf("an unknown CA: %v", err)
	}
	s = open(t, rstore.Config{URL: mutual, CAFile: ca})
	if err := s.Ping(t.Context()); !errors.Is(err, idem.ErrUnavailable) {
		t.Errorf("without the certificate that the server wants: %v", err)
	}
}

// certificate makes one for 127.0.0.1 that signs itself.
func certificate(t *testing.T, dir string) (file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redis"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err1 := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	private, err2 := x509.MarshalECPrivateKey(key)
	file = filepath.Join(dir, "cert.pem")
	err3 := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600)
	err4 := os.WriteFile(filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}), 0o600)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	return file
}
