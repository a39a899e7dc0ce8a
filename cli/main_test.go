package cli_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/app"
	"github.com/idemproxy/idemproxy/cli"
	"github.com/idemproxy/idemproxy/config"
)

// log is what a proxy logs.
type log struct {
	mu  sync.Mutex
	out strings.Builder // guarded by mu
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}

func (l *log) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.String()
}

// run starts a proxy, which ends with the test.
func run(t *testing.T, backend string, change ...func(*config.Config)) (*app.App, *log) {
	t.Helper()
	c := config.Default()
	c.Listen, c.Admin, c.Store, c.Backends = []string{"127.0.0.1:0"}, "127.0.0.1:0", "embedded:"+t.TempDir(), []string{backend}
	for _, f := range change {
		f(&c)
	}
	logged := &log{}
	a, err := app.New(c, zerolog.New(logged).Level(zerolog.InfoLevel))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		http.DefaultClient.CloseIdleConnections()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return a, logged
}

// command runs the command line and returns its exit code and output.
func command(t *testing.T, args ...string) (code int, out string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = cli.Main(context.Background(), args, &stdout, &stderr)
	return code, stdout.String() + stderr.String()
}

func send(t *testing.T, url, key string) (status int, body, replayed string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "a.example" // whatever port the proxy is at
	req.Header.Set("Idempotency-Key", key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text), resp.Header.Get("Idempotent-Replayed")
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "idemproxy.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestVersionAndConfigCommands(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"version"}, cli.ExitOK, "idemproxy "},
		{[]string{"--version"}, cli.ExitOK, "idemproxy "},
		{[]string{"-v"}, cli.ExitOK, "idemproxy "},
		{[]string{"config", "--lock-ttl", "9s"}, cli.ExitOK, "lock_ttl: 9s  # from --lock-ttl"},
		{[]string{"--help"}, cli.ExitOK, "--on-ambiguous"},
		{[]string{"config", "--lock-ttl", "9h"}, cli.ExitUsage, "want from 100ms to 1h"},
	} {
		var out bytes.Buffer
		if code := cli.Main(context.Background(), c.args, &out, &out); code != c.code || !strings.Contains(out.String(), c.want) {
			t.Errorf("%v: exit code %d, want %d and %q:\n%s", c.args, code, c.code, c.want, out.String())
		}
	}
}
