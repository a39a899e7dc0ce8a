package app_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/idemproxy/idemproxy/app"
	"github.com/idemproxy/idemproxy/cli"
	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// told is a backend that says who it was told the client is.
func told(t *testing.T) *backendtest.Backend {
	t.Helper()
	return backendtest.Start(t, func(c backendtest.Conn, q *backendtest.Request) { c.Answer(200, q.Header.Get("X-Forwarded-For")) })
}

// get sends a request after a preface, over a connection of its own.
func get(t *testing.T, network, addr, preface string) (status int, body string, err error) {
	t.Helper()
	c, err := net.Dial(network, addr) //nolint:noctx // a test
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, preface+"GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		return 0, "", err
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, "", err
	}
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// A unix socket beside a port; one that a dead process left is taken over, one
// that is in use is not.
func TestUnixListener(t *testing.T) {
	t.Parallel()
	b := told(t)
	path := filepath.Join(t.TempDir(), "proxy.sock")
	left, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	left.(*net.UnixListener).SetUnlinkOnClose(false) //nolint:forcetypeassert // it is one
	_ = left.Close()
	a, _ := run(t, zerolog.Disabled, b.URL(), func(c *config.Config) { c.Listen = []string{"127.0.0.1:0", "unix:" + path} })
	if status, body, err := get(t, "unix", path, ""); status != 200 || body != "unknown" {
		t.Errorf("%d %s %v", status, body, err)
	}
	if status, _, err := get(t, "tcp", strings.TrimPrefix(a.URL(), "http://"), ""); status != 200 {
		t.Errorf("%d %v", status, err)
	}
	c := config.Default()
	c.Listen, c.Admin, c.Store = []string{"unix:" + path}, "", "embedded:"+t.TempDir()
	if _, err := app.New(c, zerolog.Nop()); err == nil || !strings.Contains(err.Error(), "--listen: unix:"+path) {
		t.Errorf("a socket in use: %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error("the socket in use is gone")
	}
}

// Nothing but a socket makes room for one: what else is at its path stays, and the error says what
// it is.
func TestUnixListenerTakesNoOthersPlace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	left, err := net.Listen("unix", at("left"))
	if err != nil {
		t.Fatal(err)
	}
	left.(*net.UnixListener).SetUnlinkOnClose(false) //nolint:forcetypeassert // it is one
	_ = left.Close()
	if err := errors.Join(
		os.WriteFile(at("a regular file"), []byte("important"), 0o600), os.Mkdir(at("a directory"), 0o700),
		unix.Mkfifo(at("a named pipe"), 0o600), os.Symlink(at("left"), at("a symbolic link")),
	); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"a regular file", "a directory", "a named pipe", "a symbolic link"} {
		before, err := os.Lstat(at(what))
		if err != nil {
			t.Fatal(err)
		}
		c := config.Default()
		c.Listen, c.Admin, c.Store = []string{"unix:" + at(what)}, "", "embedded:"+t.TempDir()
		_, err = app.New(c, zerolog.Nop())
		if err == nil || !strings.Contains(err.Error(), "there is "+what) {
			t.Errorf("%s: %v", what, err)
		}
		if after, err := os.Lstat(at(what)); err != nil || !os.SameFile(before, after) {
			t.Errorf("%s is gone: %v", what, err)
		}
	}
}

// With the PROXY protocol, who is trusted says who the client is, and nobody else
// gets in.
func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	v2 := func(from, to net.Addr) string {
		b, err := proxyproto.HeaderProxyFromAddrs(2, from, to).Format()
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	ip, path := net.ParseIP("2001:db8::7"), &net.UnixAddr{Net: "unix", Name: "/a"}
	local, err := (&proxyproto.Header{Version: 2, Command: proxyproto.LOCAL, TransportProtocol: proxyproto.UNSPEC}).Format()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, trusted, preface, want string }{
		{"version 1", "127.0.0.1", "PROXY TCP4 203.0.113.9 192.0.2.1 1 2\r\n", "203.0.113.9"},
		{"version 2", "127.0.0.0/8", v2(&net.TCPAddr{IP: ip, Port: 1}, &net.TCPAddr{IP: ip, Port: 2}), "2001:db8::7"},
		{"a check of the proxy's own", "127.0.0.1", string(local), "127.0.0.1"},
		{"datagrams", "127.0.0.1", v2(&net.UDPAddr{IP: ip, Port: 1}, &net.UDPAddr{IP: ip, Port: 2}), ""},
		{"datagrams of IPv4", "127.0.0.1", v2(&net.UDPAddr{IP: net.IPv4(1, 2, 3, 4), Port: 1}, &net.UDPAddr{IP: net.IPv4(1, 2, 3, 4), Port: 2}), ""},
		{"a socket's path", "127.0.0.1", v2(path, path), ""},
		{"another one", "127.0.0.1", "PROXY UNKNOWN\r\n", "127.0.0.1"},
		{"no header", "127.0.0.1", "", ""},
		{"malformed", "127.0.0.1", "PROXY TCP4 nonsense\r\n", ""},
		{"not trusted", "10.0.0.0/8", "PROXY TCP4 203.0.113.9 192.0.2.1 1 2\r\n", ""},
		{"not trusted, no header", "10.0.0.0/8", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := told(t)
			a, _ := run(t, zerolog.Disabled, b.URL(), func(cfg *config.Config) {
				cfg.ProxyProtocol, cfg.TrustedProxies = true, []string{c.trusted}
			})
			status, body, err := get(t, "tcp", strings.TrimPrefix(a.URL(), "http://"), c.preface)
			if c.want == "" {
				if err == nil && status == 200 {
					t.Errorf("%d %s: want no answer", status, body)
				}
				return
			}
			if status != 200 || body != c.want {
				t.Errorf("%d %q %v, want %s", status, body, err, c.want)
			}
		})
	}
}

func TestReusePort(t *testing.T) {
	t.Parallel()
	b := told(t)
	reuse := func(addr string) func(*config.Config) {
		return func(c *config.Config) { c.Listen, c.ReusePort = []string{addr}, true }
	}
	first, _ := run(t, zerolog.Disabled, b.URL(), reuse("127.0.0.1:0"))
	second, _ := run(t, zerolog.Disabled, b.URL(), reuse(strings.TrimPrefix(first.URL(), "http://")))
	if first.URL() != second.URL() {
		t.Errorf("%s and %s", first.URL(), second.URL())
	}
}

// holds opens a connection that has been served.
func holds(t *testing.T, addr, preface string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr) //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := io.WriteString(c, preface+"GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v %v", resp, err)
	}
	return c
}

// A connection that is one too many is answered, counted, and logged with the id of
// the answer.
func TestMaxClientsPerIP(t *testing.T) {
	t.Parallel()
	for reason, c := range map[string]struct {
		status int
		change func(*config.Config)
	}{
		"max_clients_per_ip": {429, func(c *config.Config) { c.MaxClientsPerIP = 1 }},
		"max_clients":        {503, func(c *config.Config) { c.MaxClients = 1 }},
	} {
		b := told(t)
		a, out := run(t, zerolog.WarnLevel, b.URL(), c.change)
		addr := strings.TrimPrefix(a.URL(), "http://")
		first := holds(t, addr, "")
		status, body, err := get(t, "tcp", addr, "")
		if status != c.status || !strings.Contains(body, "/problems.md#too-many-clients") {
			t.Errorf("%d %s %v, want %d", status, body, err, c.status)
		}
		out.await(t, `"event":"connection_refused","reason":"`+reason+`","remote":"127.0.0.1:`)
		if text := out.text(); !strings.Contains(text, `"connections":1,"request_id":"`) {
			t.Error(text)
		}
		if n := metrics(t, a)[`connections_refused_total{reason="`+reason+`"}`]; n != 1 {
			t.Errorf("counted %v times", n)
		}
		_ = first.Close()
	}
}

// With the PROXY protocol it is the clients that are counted, and not the proxy.
func TestMaxClientsPerIPBehindAProxy(t *testing.T) {
	t.Parallel()
	b := told(t)
	a, _ := run(t, zerolog.Disabled, b.URL(), func(c *config.Config) {
		c.MaxClientsPerIP, c.ProxyProtocol, c.TrustedProxies = 1, true, []string{"127.0.0.1"}
	})
	addr := strings.TrimPrefix(a.URL(), "http://")
	of := func(ip string) string { return "PROXY TCP4 " + ip + " 192.0.2.1 1 2\r\n" }
	holds(t, addr, of("203.0.113.1"))
	holds(t, addr, of("203.0.113.2"))
	for range 2 {
		holds(t, addr, "PROXY UNKNOWN\r\n") // the proxy's own
	}
	if status, body, err := get(t, "tcp", addr, of("203.0.113.1")); status != 429 || !strings.Contains(body, "too-many-clients-of-address") {
		t.Errorf("%d %s %v, want 429", status, body, err)
	}
}

// What is no good PROXY header is refused with its reason, and not logged as answered;
// whoever only looks whether somebody listens is no matter.
func TestRefusedPROXYHeaders(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ trusted, preface, want string }{
		"malformed":   {"127.0.0.1", "PROXY TCP4 nonsense\r\n", `"reason":"proxy_header","remote":"127.0.0.1:`},
		"none":        {"127.0.0.1", "", `"reason":"proxy_header","remote":"127.0.0.1:`},
		"not trusted": {"10.0.0.0/8", "PROXY TCP4 203.0.113.9 192.0.2.1 1 2\r\n", `"reason":"not_trusted","remote":"127.0.0.1:`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := told(t)
			a, out := run(t, zerolog.InfoLevel, b.URL(), func(cfg *config.Config) {
				cfg.ProxyProtocol, cfg.TrustedProxies = true, []string{c.trusted}
			})
			addr := strings.TrimPrefix(a.URL(), "http://")
			look, err := net.Dial("tcp", addr) //nolint:noctx // a test
			if err != nil {
				t.Fatal(err)
			}
			if c.trusted == "127.0.0.1" {
				_ = look.(*net.TCPConn).CloseWrite() //nolint:forcetypeassert // it is one
				if n, err := look.Read(make([]byte, 1)); n != 0 || err == nil {
					t.Errorf("%d bytes, %v", n, err)
				}
				if text := out.text(); strings.Contains(text, "refused") {
					t.Errorf("a look is logged: %s", text)
				}
			}
			_ = look.Close()
			if status, body, err := get(t, "tcp", addr, c.preface); err == nil {
				t.Errorf("%d %s: want no answer", status, body)
			}
			out.await(t, `"event":"connection_refused",`+c.want)
			if text := out.text(); strings.Contains(text, `"event":"request"`) || !strings.Contains(text, `"error":"`) {
				t.Error(text)
			}
		})
	}
}

// What goes wrong with settings of listeners and upstreams is said with its place.
func TestSettingsThatDoNotGoTogether(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	notPEM := filepath.Join(dir, "not.pem")
	if err := os.WriteFile(notPEM, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for yaml, want := range map[string]string{
		"proxy_protocol: true\n":                                      ":1: proxy_protocol: want trusted-proxies with it",
		"backend_cert: /x\n":                                          ":1: backend_cert: want backend_key",
		"upstreams:\n- name: a\n  backend_key: /x\n":                  ":3: backend_key: want backend_cert",
		"upstreams:\n- name: a\n  backend_ca: /nowhere\n":             ":3: backend_ca: open /nowhere: no such file",
		"upstreams:\n- name: a\n  backend_ca: " + notPEM + "\n":       ":3: backend_ca: there is no certificate in it",
		"backend_cert: " + notPEM + "\nbackend_key: " + notPEM + "\n": ":1: backend_cert: the certificate for the backend",
		"backend: http://a:99999\n":                                   ":1: backend: ",
	} {
		file := filepath.Join(t.TempDir(), "c.yaml")
		if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, out := command(t, "check", "-c", file); code != cli.ExitUsage || !strings.Contains(out, file+want) {
			t.Errorf("%q: exit code %d, %s; want %s", yaml, code, out, want)
		}
	}
}

// Reloading takes new rules and upstreams, and refuses what needs a restart
// whole.
func TestReload(t *testing.T) {
	t.Parallel()
	first, second := backendtest.Start(t, func(c backendtest.Conn, _ *backendtest.Request) { c.Answer(200, "first") }),
		backendtest.Start(t, func(c backendtest.Conn, _ *backendtest.Request) { c.Answer(200, "second") })
	c := config.Default()
	c.Listen, c.Admin, c.Store, c.Backends = []string{"127.0.0.1:0"}, "", "embedded:"+t.TempDir(), []string{first.URL()}
	a := runConfig(t, zerolog.Nop(), c)
	body := func() string {
		_, b, err := get(t, "tcp", strings.TrimPrefix(a.URL(), "http://"), "")
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if got := body(); got != "first" {
		t.Error(got)
	}
	c.Backends = []string{second.URL()}
	if err := a.Reload(c); err != nil {
		t.Error(err)
	}
	if got := body(); got != "second" {
		t.Error(got)
	}
	bad := c
	bad.Backends, bad.Namespace, bad.MaxHeader = []string{first.URL()}, "other", 32<<10
	if err := a.Reload(bad); err == nil || !strings.Contains(err.Error(), "a change needs a restart (max-header, namespace)") {
		t.Error(err)
	}
	bad = c
	bad.Backends, bad.RequireKey, bad.KeyFormat = []string{first.URL()}, true, "("
	if err := a.Reload(bad); err == nil {
		t.Error("a key format that is none")
	}
	if got := body(); got != "second" {
		t.Errorf("%s: a reload that failed changed something", got)
	}
}

// What check warns of is in the log, too.
func TestDoubtsAreLogged(t *testing.T) {
	t.Parallel()
	b := told(t)
	_, out := run(t, zerolog.WarnLevel, b.URL(), func(c *config.Config) {
		c.RejectDuplicates, c.Origin = true, config.Origin{"on-duplicate": "f.yaml:3"}
	})
	out.await(t, `"event":"setting_doubtful","error":"f.yaml:3: on_duplicate: does nothing without duplicate-window"`)
}

// Who lets more clients in than there may be files, with those that backends' connections
// take, is told at the start, and not when they are used up.
func TestFewFiles(t *testing.T) {
	t.Parallel()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Cur > 1<<23 {
		t.Skipf("%d files are more than max_clients can be", limit.Cur)
	}
	b := told(t)
	others := config.NamedUpstream{Name: "others", Upstream: config.Upstream{
		Backends: []string{b.URL(), b.URL()}, MaxConns: 20, MaxQueue: 20, MaxHeader: 64 << 10, ConnectTimeout: time.Second,
		HealthInterval: time.Second,
	}}
	most := int(limit.Cur) - 10 - 40 - app.OtherFiles
	for clients, warns := range map[int]bool{most: false, most + 1: true} {
		_, out := run(t, zerolog.WarnLevel, b.URL(), func(c *config.Config) {
			c.MaxClients, c.MaxConns, c.Upstreams = clients, 10, []config.NamedUpstream{others}
			c.Origin = config.Origin{"max-clients": "f.yaml:3"}
		})
		if got := strings.Contains(out.String(), `"event":"few_files"`); got != warns {
			t.Errorf("%d clients, %d files: warned %v\n%s", clients, limit.Cur, got, out.String())
		}
	}
	// Who has not set it gets as many as there is room for.
	for files, want := range map[uint64]int{1 << 30: 10_000, 11_110: 10_000, 11_109: 9_999, 3_000: 1_890, 1_000: 250, 10: 2} {
		c := config.Config{MaxClients: 10_000, Upstream: config.Upstream{Backends: []string{"b"}, MaxConns: 10}}
		if got := app.MostClients(&c, files); got != want {
			t.Errorf("%d files: %d clients, want %d", files, got, want)
		}
		c.Origin = config.Origin{"max-clients": "--max-clients"}
		if got := app.MostClients(&c, files); got != 10_000 {
			t.Errorf("%d files, and 10,000 clients as was said: %d", files, got)
		}
	}
	// By default: as many clients as may come, and not one connection to a backend for each.
	d := config.Default()
	if n := app.FilesFor(&d); n != uint64(d.MaxClients+d.MaxConns+app.OtherFiles) {
		t.Errorf("the defaults are said to need %d files", n)
	}
}

// A response that breaks off is in the log by its request's id.
func TestCutsAreLoggedByRequest(t *testing.T) {
	t.Parallel()
	b := backendtest.Start(t, func(c backendtest.Conn, _ *backendtest.Request) {
		c.Raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel")
		_ = c.Close()
	})
	a, out := run(t, zerolog.WarnLevel, b.URL())
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.URL()+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Request-Id", "mine")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.ReadAll(resp.Body); err == nil {
		t.Error("it did not break off")
	}
	out.await(t, `"event":"response_cut","request_id":"mine"`)
}

// Over TLS a connection that is one too many ends before the handshake, without a word
// in plain text, and is logged.
func TestMaxClientsPerIPOverTLS(t *testing.T) {
	t.Parallel()
	for reason, change := range map[string]func(*config.Config){
		"max_clients_per_ip": func(c *config.Config) { c.MaxClientsPerIP = 1 },
		"max_clients":        func(c *config.Config) { c.MaxClients = 1 },
	} {
		ca, dir := newAuthority(t), t.TempDir()
		cert, key := ca.issue("server", 1)
		files := []string{filepath.Join(dir, "cert"), filepath.Join(dir, "key")}
		for i, text := range [][]byte{cert, key} {
			if err := os.WriteFile(files[i], text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		b := told(t)
		a, out := run(t, zerolog.WarnLevel, b.URL(), change, func(c *config.Config) { c.TLSCert, c.TLSKey = files[0], files[1] })
		addr := strings.TrimPrefix(a.URL(), "https://")
		shown := ca.client("", 0).Transport.(*http.Transport).TLSClientConfig //nolint:forcetypeassert // ours
		first, err := tls.Dial("tcp", addr, shown)
		if err != nil {
			t.Fatal(err)
		}
		second, err := net.Dial("tcp", addr) //nolint:noctx // a test
		if err != nil {
			t.Fatal(err)
		}
		if n, err := second.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("%s: %d bytes, %v; want none", reason, n, err)
		}
		out.await(t, `"event":"connection_refused","reason":"`+reason+`","remote":"127.0.0.1:`)
		if _, err := tls.Dial("tcp", addr, shown); err == nil {
			t.Errorf("%s: there was a handshake", reason)
		}
		_, _ = first.Close(), second.Close()
	}
}
