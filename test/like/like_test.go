package like_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/app"
	"github.com/idemproxy/idemproxy/config"
)

// recorder is a backend that keeps what it gets, and answers as it is told.
type recorder struct {
	ln net.Listener

	mu     sync.Mutex
	answer string   // guarded by mu; raw
	seen   []string // guarded by mu
}

func newRecorder(t *testing.T) *recorder {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	b := &recorder{ln: ln}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go b.serve(c)
		}
	}()
	return b
}

func (b *recorder) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	raw := newTapped(c)
	for {
		var body []byte
		head, err := raw.head(func(br *bufio.Reader) error {
			req, err := http.ReadRequest(br)
			if err == nil {
				body, err = io.ReadAll(req.Body)
			}
			return err
		})
		if err != nil {
			return
		}
		b.mu.Lock()
		b.seen = append(b.seen, described(head, body, false))
		answer := b.answer
		b.mu.Unlock()
		if _, err := io.WriteString(c, answer); err != nil || strings.Contains(answer, "Connection: close") {
			return
		}
	}
}

// say sets the answer to all further requests.
func (b *recorder) say(answer string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.answer, b.seen = answer, nil
}

func (b *recorder) saw() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.seen, "\n-- then --\n")
}

// tapped reads messages off a connection, and keeps their headers as they were
// written.
type tapped struct {
	text bytes.Buffer
	br   *bufio.Reader
}

func newTapped(c io.Reader) *tapped {
	t := &tapped{}
	t.br = bufio.NewReaderSize(io.TeeReader(c, &t.text), 64<<10)
	return t
}

// head returns the header of the message that read reads.
func (t *tapped) head(read func(*bufio.Reader) error) (string, error) {
	t.text.Next(t.text.Len() - t.br.Buffered())
	err := read(t.br)
	head, _, _ := bytes.Cut(t.text.Bytes(), []byte("\r\n\r\n"))
	return string(head), err
}

// isOwn says which fields are a proxy's own to write: those of the connection,
// those that say who it is, and those that say where a request came from.
func isOwn(line string) bool {
	name, _, _ := strings.Cut(line, ":")
	return slices.Contains([]string{
		"connection", "keep-alive", "transfer-encoding", "content-length", "via", "x-forwarded-for", "x-forwarded-proto",
		"x-forwarded-host", "x-request-id", "trailer",
	}, strings.ToLower(name))
}

// described is a message without what is a proxy's own: fields in their order and
// spelling, and the body. The length is the hop's own, too, but of a response to
// HEAD, where it says what there would be.
func described(head string, body []byte, isHead bool) string {
	lines := strings.Split(head, "\r\n")
	var out strings.Builder
	out.WriteString(lines[0] + "\n")
	for _, line := range lines[1:] {
		if !isOwn(line) || isHead && strings.HasPrefix(line, "Content-Length") {
			out.WriteString(strings.TrimRight(line, " ") + "\n")
		}
	}
	if len(body) > 200 {
		fmt.Fprintf(&out, "\n%d bytes, %x", len(body), body[len(body)-16:])
	} else {
		fmt.Fprintf(&out, "\n%q", body)
	}
	return out.String()
}

// ask sends raw requests over one connection and describes the answers to them.
func ask(t *testing.T, addr string, s *shape) string {
	t.Helper()
	c, err := net.Dial("tcp", addr) //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	go func() { _, _ = io.WriteString(c, s.request) }() // the answer may come first
	raw, method := newTapped(c), strings.Fields(s.request)[0]
	var out []string
	for range max(s.answers, 1) {
		for interim := true; interim; {
			var body []byte
			head, err := raw.head(func(br *bufio.Reader) error {
				resp, err := http.ReadResponse(br, &http.Request{Method: method})
				if err == nil {
					interim = resp.StatusCode < 200 && resp.StatusCode != 101
					body, err = io.ReadAll(resp.Body)
				}
				return err
			})
			if err != nil {
				return strings.Join(append(out, "broken: "+err.Error()), "\n-- then --\n")
			}
			if !interim {
				// The version is the hop's own.
				_, head, _ = strings.Cut(head, " ")
				out = append(out, described(head, body, method == http.MethodHead))
			}
		}
	}
	return strings.Join(out, "\n-- then --\n")
}

func startNginx(t *testing.T, backend string) (addr string) {
	t.Helper()
	if _, err := exec.LookPath("nginx"); err != nil {
		t.Fatal("nginx is missing: scripts/test.sh installs it")
	}
	dir := t.TempDir()
	socket := filepath.Join(dir, "nginx.sock")
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`worker_processes 1; daemon off; pid %[1]s/pid; error_log stderr crit;
events { worker_connections 256; }
http {
  access_log off; server_tokens off; client_max_body_size 0; merge_slashes off; underscores_in_headers on;
  large_client_header_buffers 4 64k; client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy;
  fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  upstream backend { server %[2]s; keepalive 8; }
  server {
    listen unix:%[3]s;
    location / {
      proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Host $http_host; proxy_set_header Connection "";
      proxy_request_buffering off; proxy_buffering off; proxy_buffer_size 64k; proxy_buffers 4 64k; proxy_busy_buffers_size 64k;
      proxy_pass_header Server; proxy_pass_header Date; proxy_ignore_headers Cache-Control Expires Set-Cookie Vary;
      proxy_next_upstream off;
    }
  }
}`, dir, backend, socket)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), "nginx", "-p", dir, "-c", conf)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	// nginx takes no port of 0, so it listens on a socket, and this on a port.
	return forward(t, socket, &said)
}

// forward takes TCP connections for a unix socket, once there is one.
func forward(t *testing.T, socket string, said *bytes.Buffer) string {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) { // another process's doing
		c, err := net.Dial("unix", socket) //nolint:noctx // a test
		if err == nil {
			_ = c.Close()
			break
		}
		if time.Now().After(end) {
			t.Fatalf("nginx does not start: %s", said)
		}
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test
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
			go func() {
				defer func() { _ = c.Close() }()
				to, err := net.Dial("unix", socket) //nolint:noctx // a test
				if err != nil {
					return
				}
				defer func() { _ = to.Close() }()
				go func() { _, _ = io.Copy(to, c) }()
				_, _ = io.Copy(c, to)
			}()
		}
	}()
	return ln.Addr().String()
}

func startProxy(t *testing.T, backend string) (addr string) {
	t.Helper()
	c := config.Default()
	c.Listen, c.Admin, c.Store, c.Backends = []string{"127.0.0.1:0"}, "", "embedded:"+t.TempDir(), []string{"http://" + backend}
	c.MaxHeader = 64 << 10
	a, err := app.New(c, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return strings.TrimPrefix(a.URL(), "http://")
}

// The same API behaves the same through either.
func TestLikeNginx(t *testing.T) { //nolint:tparallel // see below
	t.Parallel()
	all := shapes()
	if len(all) < 80 {
		t.Fatalf("%d shapes, want 80 at least", len(all))
	}
	backend := newRecorder(t)
	addr := backend.ln.Addr().String()
	nginx, ours := startNginx(t, addr), startProxy(t, addr)
	differ := 0
	for i := range all {
		s := &all[i]
		t.Run(s.name, func(t *testing.T) { //nolint:paralleltest // they share a backend
			through := func(proxy string) (client, seen string) {
				backend.say(s.response)
				return ask(t, proxy, s), backend.saw()
			}
			client, seen := through(ours)
			wantClient, wantSeen := through(nginx)
			if (client != wantClient || seen != wantSeen) != (s.differs != "") {
				t.Errorf("the backend sees\n%s\nthrough nginx\n%s\nand the client\n%s\nthrough nginx\n%s\nstated: %q",
					seen, wantSeen, client, wantClient, s.differs)
			}
			if s.differs == "" {
				return
			}
			differ++
			for _, want := range s.ours {
				if !strings.Contains(client+seen, want) {
					t.Errorf("%q is not in what the client gets\n%s\nnor in what the backend gets\n%s", want, client, seen)
				}
			}
		})
	}
	t.Logf("figure: %d shapes, %d of them with a stated difference", len(all), differ)
}
