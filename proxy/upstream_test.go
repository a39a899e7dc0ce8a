package proxy_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
	"github.com/idemproxy/idemproxy/upstream"
)

// named answers with who it is.
func named(t *testing.T, name string) *backendtest.Backend {
	t.Helper()
	return backendtest.Start(t, func(c backendtest.Conn, _ *backendtest.Request) { c.Answer(200, name) })
}

// dead is an address where nobody listens.
func dead(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return "http://" + ln.Addr().String()
}

func TestRoundRobinTakesTurns(t *testing.T) {
	t.Parallel()
	a, b, c := named(t, "a"), named(t, "b"), named(t, "c")
	r := newRig(t, backendtest.OK, func(cfg *proxy.Config) {
		cfg.Upstream = upstream.Config{Backends: []string{a.URL(), b.URL(), c.URL()}, Balance: upstream.RoundRobin}
	})
	count := map[string]int{}
	for range 12 {
		count[r.do(http.MethodGet, "/", "", "").body]++
	}
	if count["a"] != 4 || count["b"] != 4 || count["c"] != 4 {
		t.Errorf("%v, want 4 each", count)
	}
}

// The backend that is busy gets nothing while another one is not.
func TestLeastConnectionsAvoidsTheBusy(t *testing.T) {
	t.Parallel()
	entered, proceed := make(chan string, 8), make(chan struct{})
	answer := func(name string) func(backendtest.Conn, *backendtest.Request) {
		return func(c backendtest.Conn, q *backendtest.Request) {
			if q.URL.Path == "/slow" {
				entered <- name
				<-proceed
			}
			c.Answer(200, name)
		}
	}
	a, b := backendtest.Start(t, answer("a")), backendtest.Start(t, answer("b"))
	r := newRig(t, backendtest.OK, func(cfg *proxy.Config) {
		cfg.Upstream = upstream.Config{Backends: []string{a.URL(), b.URL()}}
	})
	done := make(chan answerOrError, 1)
	go func() {
		a, err := r.try(http.MethodGet, "/slow", "", "")
		done <- answerOrError{a, err}
	}()
	busy := <-entered
	for range 10 {
		if got := r.do(http.MethodGet, "/", "", "").body; got == busy {
			t.Errorf("a request went to %s, which is busy", got)
		}
	}
	close(proceed)
	if last := <-done; last.err != nil || last.body != busy {
		t.Errorf("%v", last)
	}
}

type answerOrError struct {
	answer
	err error
}

// Nothing was sent to a backend that is not there, so another one executes, once;
// after some failures it is not even tried.
func TestAnotherBackendIfNothingWasSent(t *testing.T) {
	t.Parallel()
	var down atomic.Int32
	gone, ok := dead(t), backendtest.Start(t, backendtest.OK)
	r := newRig(t, backendtest.OK, func(cfg *proxy.Config) {
		cfg.Upstream = upstream.Config{Backends: []string{gone, ok.URL()}, Balance: upstream.RoundRobin, EjectAfter: 2}
		cfg.Trace.BackendDown = func(_, backend string, _ error) {
			if backend == gone {
				down.Add(1)
			}
		}
	})
	for i := range 10 {
		key := fmt.Sprintf("k%d", i)
		if a := r.post(key, "x"); a.StatusCode != 200 {
			t.Fatalf("%d %s", a.StatusCode, a.body)
		}
		if n := ok.Executions(key); n != 1 {
			t.Errorf("%s: %d executions", key, n)
		}
	}
	if down.Load() != 1 {
		t.Errorf("left out %d times, want once", down.Load())
	}
}

// A request that was sent may have been executed: no other backend gets it.
func TestNoOtherBackendOnceSent(t *testing.T) {
	t.Parallel()
	cut := func(c backendtest.Conn, _ *backendtest.Request) { c.Reset() }
	a, b := backendtest.Start(t, cut), backendtest.Start(t, cut)
	r := newRig(t, backendtest.OK, func(cfg *proxy.Config) {
		cfg.Upstream = upstream.Config{Backends: []string{a.URL(), b.URL()}, EjectAfter: 1}
	})
	for i := range 6 {
		key := fmt.Sprintf("k%d", i)
		r.isProblem(r.post(key, "x"), 502, "backend-cut")
		if n := a.Executions(key) + b.Executions(key); n != 1 {
			t.Errorf("%s: %d executions, want 1", key, n)
		}
	}
}

// A backend that says it is unwell is left out until it is well again.
func TestHealthChecks(t *testing.T) {
	t.Parallel()
	var sick atomic.Bool
	events := make(chan string, 8)
	a := backendtest.Start(t, func(c backendtest.Conn, q *backendtest.Request) {
		if q.URL.Path == "/health" && sick.Load() {
			c.Answer(503, "")
			return
		}
		c.Answer(200, "a")
	})
	b := named(t, "b")
	r := newRig(t, backendtest.OK, func(cfg *proxy.Config) {
		cfg.Upstream = upstream.Config{
			Backends: []string{a.URL(), b.URL()}, Balance: upstream.RoundRobin, HealthPath: "/health", HealthInterval: 20 * time.Millisecond,
		}
		cfg.Trace.BackendDown = func(_, backend string, why error) { events <- "down " + backend + ": " + why.Error() }
		cfg.Trace.BackendUp = func(_, backend string) { events <- "up " + backend }
	})
	both := func() map[string]int {
		count := map[string]int{}
		for range 8 {
			count[r.do(http.MethodGet, "/", "", "").body]++
		}
		return count
	}
	sick.Store(true)
	if got, want := <-events, "down "+a.URL()+": the health check was answered with 503"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if count := both(); count["b"] != 8 {
		t.Errorf("%v: one that is down got requests", count)
	}
	sick.Store(false)
	if got, want := <-events, "up "+a.URL(); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if count := both(); count["a"] != 4 || count["b"] != 4 {
		t.Errorf("%v, want 4 each", count)
	}
}

// With all of them down, requests go out all the same.
func TestAllDownIsAsGoodAsNone(t *testing.T) {
	t.Parallel()
	down := make(chan struct{}, 8)
	unwell := func(c backendtest.Conn, q *backendtest.Request) {
		if q.URL.Path == "/health" {
			c.Answer(500, "")
			return
		}
		c.Answer(200, "fine")
	}
	a, b := backendtest.Start(t, unwell), backendtest.Start(t, unwell)
	r := newRig(t, backendtest.OK, func(cfg *proxy.Config) {
		cfg.Upstream = upstream.Config{Backends: []string{a.URL(), b.URL()}, HealthPath: "/health", HealthInterval: 20 * time.Millisecond}
		cfg.Trace.BackendDown = func(string, string, error) { down <- struct{}{} }
	})
	<-down
	<-down
	if a := r.do(http.MethodGet, "/", "", ""); a.body != "fine" {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

// Over the bound of connections requests wait; over the bound of those that wait
// they are refused at once, with nothing sent.
func TestQueue(t *testing.T) {
	t.Parallel()
	entered, proceed := make(chan struct{}, 8), make(chan struct{})
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		entered <- struct{}{}
		<-proceed
		backendtest.OK(c, q)
	}, func(cfg *proxy.Config) { cfg.Upstream.MaxConns, cfg.Upstream.MaxQueue = 1, 1 })
	answers := make(chan answerOrError, 2)
	for i := range 2 {
		go func() {
			a, err := r.try(http.MethodPost, "/", fmt.Sprintf("k%d", i), "x")
			answers <- answerOrError{a, err}
		}()
	}
	<-entered
	for r.server.Status()[0].Active < 2 { // until the other one waits, which nothing tells
		time.Sleep(time.Millisecond)
	}
	for n := range 3 {
		a := r.do(http.MethodPost, "/", fmt.Sprintf("more%d", n), "x")
		r.isProblem(a, 503, "backend-busy")
		if a.Header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
	close(proceed)
	for range 2 {
		if a := <-answers; a.err != nil || a.StatusCode != 200 {
			t.Errorf("%d %v", a.StatusCode, a.err)
		}
	}
}

func TestUnixBackend(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "backend.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	b := backendtest.Serve(t, ln, backendtest.OK)
	r := newRig(t, backendtest.OK, func(cfg *proxy.Config) { cfg.Upstream.Backends = []string{"unix:" + path} })
	if a := r.post("k", "x"); a.StatusCode != 200 || b.Executions("k") != 1 {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
}

// Time without progress is bounded apart from the whole.
func TestReadTimeout(t *testing.T) {
	t.Parallel()
	stop := make(chan struct{})
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		if q.URL.Path == "/drip" { // slow, but never silent
			c.Raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
			for _, b := range "drips" {
				c.Raw(string(b))
			}
			return
		}
		<-stop
	}, func(cfg *proxy.Config) { cfg.Upstream.ReadTimeout = 100 * time.Millisecond })
	t.Cleanup(func() { close(stop) }) // before the rig's
	if a := r.do(http.MethodPost, "/drip", "drip", "x"); a.body != "drips" {
		t.Errorf("%d %s", a.StatusCode, a.body)
	}
	r.isProblem(r.post("silent", "x"), 504, "backend-timeout")
	r.executions("silent", 1)
}

// authority makes certificates.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	_, a.key, a.cert = a.issue("the authority", true)
	return a
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

func (a *authority) issue(name string, isCA bool) (tls.Certificate, *ecdsa.PrivateKey, *x509.Certificate) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: isCA, BasicConstraintsValid: true,
	}
	parent, signer := a.cert, a.key
	if isCA {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, key, cert
}

// A backend of https:// must show a certificate of the CA for the name that it
// was asked for by, and gets ours.
func TestBackendTLS(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t), newAuthority(t)
	serverCert, _, _ := ours.issue("ledger.internal", false)
	clientCert, clientKey, _ := ours.issue("idemproxy", false)
	clients := x509.NewCertPool()
	clients.AddCert(ours.cert)
	var asked atomic.Value
	backend := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		asked.Store(q.TLS.ServerName + " " + q.TLS.PeerCertificates[0].Subject.CommonName)
		_, _ = w.Write([]byte("ok"))
	}))
	backend.TLS = &tls.Config{Certificates: []tls.Certificate{serverCert}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert}
	backend.StartTLS()
	t.Cleanup(backend.Close)
	der, err := x509.MarshalPKCS8PrivateKey(clientKey)
	if err != nil {
		t.Fatal(err)
	}
	up := upstream.Config{
		Backends: []string{backend.URL}, CA: ours.pem(), ServerName: "ledger.internal",
		Certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: clientCert.Certificate[0]}),
		Key:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
	}
	r := newRig(t, backendtest.OK, func(cfg *proxy.Config) { cfg.Upstream = up })
	if a := r.post("k", "x"); a.StatusCode != 200 || asked.Load() != "ledger.internal idemproxy" {
		t.Errorf("%d %s, asked for %v", a.StatusCode, a.body, asked.Load())
	}
	for name, change := range map[string]func(*upstream.Config){
		"another authority": func(u *upstream.Config) { u.CA = theirs.pem() },
		"another name":      func(u *upstream.Config) { u.ServerName = "mail.internal" },
		"no certificate":    func(u *upstream.Config) { u.Certificate, u.Key = nil, nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked.Store("")
			bad := up
			change(&bad)
			r := newRig(t, backendtest.OK, func(cfg *proxy.Config) { cfg.Upstream = bad })
			if a := r.post("k", "x"); a.StatusCode != 502 {
				t.Errorf("%d %s", a.StatusCode, a.body)
			}
		})
	}
}

func TestUpstreamsThatCannotBe(t *testing.T) {
	t.Parallel()
	for want, u := range map[string]upstream.Config{
		`"http://a/b": want http://host:port, https://host:port or unix:/path, and nothing else`: {Backends: []string{"http://a/b"}},
		"want http://host:port, https://host:port or unix:/path":                                 {},
		`"unix:x": want http://host:port, https://host:port or unix:/path, absolute`:             {Backends: []string{"unix:x"}},
		"there is no certificate in it: want CA certificates as PEM":                             {Backends: []string{"https://a"}, CA: []byte("x")},
		"more than 64 backends": {Backends: append(bytesOf(64), "http://a:1")},
	} {
		if err := u.Check(); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func bytesOf(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("http://10.0.0.%d:80", i))
	}
	return all
}

// A name that stands for several addresses is as many backends, and the watcher
// follows it. localhost is a name that needs no network.
func TestNamesAreResolved(t *testing.T) {
	t.Parallel()
	if addrs, err := net.DefaultResolver.LookupHost(context.Background(), "localhost"); err != nil || len(addrs) == 0 {
		t.Fatalf("localhost: %v, %v", addrs, err)
	}
	b := backendtest.Start(t, backendtest.OK)
	_, port, _ := net.SplitHostPort(b.Addr)
	up := upstream.Config{Backends: []string{"http://localhost:" + port}, ResolveInterval: time.Hour}
	var s *proxy.Server
	r := newRig(t, backendtest.OK, func(cfg *proxy.Config) { cfg.Upstream = up; cfg.Trace.Done = nil })
	s = r.server
	want := []byte("http://localhost:" + port + " (127.0.0.1:" + port + ")")
	for !bytes.Contains(fmt.Append(nil, s.Status()), want) {
		if a := r.post("k", "x"); a.StatusCode != 200 {
			t.Fatalf("%d %s", a.StatusCode, a.body)
		}
	}
	for i := range 4 { // ::1, if it is there, refuses
		if a := r.post(fmt.Sprint("then", i), "x"); a.StatusCode != 200 {
			t.Errorf("%d %s", a.StatusCode, a.body)
		}
	}
}

// Requests follow a name to where it points; one that cannot be looked up stays
// where it was.
func TestNamesAreFollowed(t *testing.T) {
	t.Parallel()
	// Both listen on the same port, of two addresses of this machine.
	a := named(t, "a")
	_, port, _ := net.SplitHostPort(a.Addr)
	ln, err := net.Listen("tcp", "127.0.0.2:"+port)
	if err != nil {
		t.Fatal(err)
	}
	backendtest.Serve(t, ln, func(c backendtest.Conn, _ *backendtest.Request) { c.Answer(200, "b") })
	var points atomic.Pointer[[]string]
	points.Store(&[]string{"127.0.0.1"})
	looked, gone := make(chan struct{}), make(chan string, 8)
	r := newRig(t, backendtest.OK, func(cfg *proxy.Config) {
		cfg.Upstream = upstream.Config{Backends: []string{"http://api.internal:" + port}, ResolveInterval: 20 * time.Millisecond}
		cfg.Lookup = func(_ context.Context, host string) ([]string, error) {
			select {
			case looked <- struct{}{}:
			default:
			}
			if all := *points.Load(); host == "api.internal" && len(all) > 0 {
				return all, nil
			}
			return nil, &net.DNSError{Err: "no such host", Name: host}
		}
		cfg.Trace.BackendGone = func(_, backend string) { gone <- backend }
	})
	again := func() { // until it has been looked up, and what was found counts
		for range 3 {
			<-looked
		}
	}
	ask := func() map[string]int {
		count := map[string]int{}
		for range 10 {
			count[r.do(http.MethodGet, "/", "", "").body]++
		}
		return count
	}
	again()
	if got := ask(); got["a"] != 10 {
		t.Errorf("%v", got)
	}
	points.Store(&[]string{"127.0.0.2", "127.0.0.1"})
	again()
	if got := ask(); got["a"] == 0 || got["b"] == 0 {
		t.Errorf("%v, want both", got)
	}
	points.Store(&[]string{"127.0.0.2"})
	again()
	if got := ask(); got["b"] != 10 {
		t.Errorf("%v", got)
	}
	points.Store(&[]string{})
	again()
	if got := ask(); got["b"] != 10 {
		t.Errorf("%v, want the address to stay", got)
	}
	<-gone // the name itself, before it was first looked up
	if got, want := <-gone, "http://api.internal:"+port+" (127.0.0.1:"+port+")"; got != want {
		t.Errorf("%s is gone, want %s", got, want)
	}
}
