package proxy_test

import (
	"crypto/tls"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
	"github.com/idemproxy/idemproxy/upstream"
)

// Where the caller must be known, nobody is anonymous by mistake.
func TestCallerRequired(t *testing.T) {
	t.Parallel()
	r := newRig(t, backendtest.OK, func(c *proxy.Config) { c.RequireBind, c.DeriveKey = true, time.Minute })
	r.isProblem(r.post("k", "x"), 400, "caller-unknown")
	r.isProblem(r.post("k", "x", "Authorization: "), 400, "caller-unknown")
	r.isProblem(r.post("", "x"), 400, "caller-unknown") // its key would be derived
	if n := r.backend.Total(); n != 0 {
		t.Errorf("%d executions", n)
	}
	for _, header := range []string{"Authorization: me", "authorization: you"} {
		if a := r.post("k "+header, "x", header); a.StatusCode != 200 {
			t.Errorf("%s: %d %s", header, a.StatusCode, a.body)
		}
	}
	if a := r.do("GET", "/", "", ""); a.StatusCode != 200 {
		t.Errorf("without a key: %d %s", a.StatusCode, a.body)
	}
}

// A header without a value is nobody: two strangers with one payload stay two.
func TestDerivedKeysNeedACaller(t *testing.T) {
	t.Parallel()
	r := newRig(t, backendtest.OK, func(c *proxy.Config) { c.DeriveKey = time.Minute })
	for range 2 {
		if a := r.post("", "x", "Authorization: "); a.StatusCode != 200 || a.Header.Get("Idempotency-Key-Derived") != "" {
			t.Errorf("%d %v", a.StatusCode, a.Header)
		}
	}
}

// A certificate is a caller for derived keys and for bounds, too, and nothing that
// a client says of itself buys it another allowance.
func TestCertificatesAreCallers(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	server, _, _ := ca.issue("proxy", false)
	entered, proceed := make(chan struct{}), make(chan struct{})
	r := &rig{t: t, backend: backendtest.Start(t, func(c backendtest.Conn, q *backendtest.Request) {
		if q.URL.Path == "/slow" {
			entered <- struct{}{}
			<-proceed
		}
		backendtest.OK(c, q)
	})}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.start(tls.NewListener(ln, &tls.Config{
		Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12,
	}), &http.Transport{}, proxy.Config{Upstream: upstream.Config{Backends: []string{r.backend.URL()}}}, []func(*proxy.Config){
		func(c *proxy.Config) {
			c.DeriveKey, c.RequireBind, c.MaxPerCaller, c.MaxPerAddress = time.Minute, true, 1, 1
		},
	})
	send := func(who tls.Certificate, path, key string, header ...string) (answer, error) {
		client := &rig{t: t, addr: r.addr, scheme: "https", client: tlsClient(t, who)}
		return client.try("POST", path, key, "x", header...)
	}
	alice, _, _ := ca.issue("alice", false)
	bob, _, _ := ca.issue("bob", false)
	done := make(chan answerOrError, 1)
	go func() {
		a, err := send(alice, "/slow", "k", "Authorization: one")
		done <- answerOrError{a, err}
	}()
	<-entered
	a, err := send(alice, "/", "else", "Authorization: two")
	if err != nil {
		t.Fatal(err)
	}
	r.isProblem(a, 429, "too-many-of-caller")
	for _, replayed := range []string{"", "true"} {
		a, err := send(bob, "/", "")
		if err != nil || a.StatusCode != 200 || a.Header.Get("Idempotency-Key-Derived") != "true" ||
			a.Header.Get("Idempotent-Replayed") != replayed {
			t.Errorf("another caller from the same address: %v, %v", a, err)
		}
	}
	close(proceed)
	if a := <-done; a.err != nil || a.StatusCode != 200 {
		t.Errorf("%v", a)
	}
	if a, err := send(bob, "/slow", "k", "Authorization: one"); err != nil || a.StatusCode != 422 {
		t.Errorf("another's key: %v, %v", a, err)
	}
}

// tlsClient connects with a certificate.
func tlsClient(t *testing.T, certificate tls.Certificate) *http.Client {
	t.Helper()
	transport := &http.Transport{DisableCompression: true, TLSClientConfig: &tls.Config{
		Certificates: []tls.Certificate{certificate}, InsecureSkipVerify: true, // the server is not what is tested
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// After its response is gone a key is known for a while, and nobody executes.
func TestExpiredKeys(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := bubbleRig(t, backendtest.OK, func(c *proxy.Config) {
			c.Policy.Retention, c.Policy.Remember, c.DeriveKey = time.Hour, 2*time.Hour, time.Minute
		})
		r.post("k", "x")
		r.post("", "x", "Authorization: me")
		time.Sleep(59 * time.Minute)
		if a := r.post("k", "x"); a.Header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("within its retention: %d %s", a.StatusCode, a.body)
		}
		if a := r.post("", "x", "Authorization: me"); a.StatusCode != 200 || a.Header.Get("Idempotent-Replayed") == "true" {
			t.Errorf("a derived key after its time: %d %s", a.StatusCode, a.body)
		}
		time.Sleep(2 * time.Minute)
		r.isProblem(r.post("k", "x"), 410, "key-expired")
		r.isProblem(r.post("k", "y"), 422, "key-reused")
		time.Sleep(118 * time.Minute)
		r.isProblem(r.post("k", "x"), 410, "key-expired")
		r.executions("k", 1)
		r.outcome(proxy.Expired, 2)
		time.Sleep(2 * time.Minute)
		if a := r.post("k", "x"); a.StatusCode != 200 || a.Header.Get("Idempotent-Replayed") == "true" {
			t.Errorf("after both: %d %s", a.StatusCode, a.body)
		}
		r.executions("k", 2)
	})
}
