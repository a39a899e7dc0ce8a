package app_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/app"
	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

func secretFile(t *testing.T, names ...string) string {
	t.Helper()
	var b strings.Builder
	for _, name := range names {
		b.WriteString(keyLines[name] + "\n")
	}
	file := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

var keyLines = func() map[string]string {
	lines := map[string]string{}
	for _, name := range []string{"old", "new"} {
		secret := make([]byte, 32)
		_, _ = rand.Read(secret)
		lines[name] = name + ":" + base64.StdEncoding.EncodeToString(secret)
	}
	return lines
}()

// once runs a proxy for one exchange: what it answers comes from the store, and
// not from a memory that it does not have yet.
func once(t *testing.T, c config.Config) (status int, body, replayed, logged string) {
	t.Helper()
	out := &log{}
	a, err := app.New(c, zerolog.New(out))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	status, body, replayed = send(t, a.URL(), "k")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	return status, body, replayed, out.text()
}

// What is at rest says nothing, survives a rotation of keys, and is not replayed
// by who cannot read it.
func TestSecrecyAtRest(t *testing.T) {
	t.Parallel()
	const secretBody = "the account number is 4242424242424242, of a length that is worth compressing: " +
		"4242424242424242 4242424242424242 4242424242424242 4242424242424242 4242424242424242 4242424242424242"
	redis := redistest.Start(t)
	dir := t.TempDir()
	for name, store := range map[string]string{"redis": redis.URL(), "embedded": "embedded:" + dir} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			backend := backendtest.Start(t, func(c backendtest.Conn, _ *backendtest.Request) { c.Answer(200, secretBody) })
			c := config.Default()
			c.Listen, c.Admin, c.Store, c.Backends = []string{"127.0.0.1:0"}, "", store, []string{backend.URL()}
			c.CompressFrom = 100
			c.EncryptionKeys = secretFile(t, "old")
			if status, body, replayed, _ := once(t, c); status != 200 || body != secretBody || replayed != "" {
				t.Fatalf("the first got %d %q", status, body)
			}
			if name == "redis" {
				found := redis.Do("KEYS", "*")
				records, err := found.AsStrSlice()
				all := 0
				for _, record := range records {
					command := "GET"
					if record == "idem:registry" { // a hash
						command = "HVALS"
					}
					read := redis.Do(command, record)
					stored := read.String()
					if strings.Contains(stored, "424242") {
						t.Errorf("at rest: %q", stored)
					}
					all += len(stored)
				}
				if err != nil || all < 120 {
					t.Errorf("%q have %d bytes (%v)", records, all, err)
				}
			} else {
				files, _ := filepath.Glob(filepath.Join(dir, "*"))
				for _, file := range files {
					if text, err := os.ReadFile(file); err == nil && strings.Contains(string(text), "424242") {
						t.Errorf("%s holds the response", file)
					}
				}
			}
			c.EncryptionKeys = secretFile(t, "new", "old")
			if status, body, replayed, _ := once(t, c); status != 200 || body != secretBody || replayed != "true" {
				t.Errorf("after a rotation: %d %q %q", status, body, replayed)
			}
			c.EncryptionKeys = secretFile(t, "new")
			status, body, _, logged := once(t, c)
			if status != 500 || !strings.Contains(body, "record-unreadable") || !strings.Contains(body, `"retryable":false`) {
				t.Errorf("without the key: %d %s", status, body)
			}
			if !strings.Contains(logged, `with a key that is not configured: \"old\"`) || strings.Contains(logged, keyLines["new"][5:20]) {
				t.Errorf("the log: %s", logged)
			}
			if n := backend.Executions("k"); n != 1 {
				t.Errorf("%d executions", n)
			}
		})
	}
}

// Fingerprints are made with the secret: another one does not know them, and does
// not execute; one that knows the earlier one does, and replays.
func TestSecretFingerprints(t *testing.T) {
	t.Parallel()
	backend := backendtest.Start(t, backendtest.OK)
	c := config.Default()
	c.Listen, c.Admin, c.Store, c.Backends = []string{"127.0.0.1:0"}, "", "embedded:"+t.TempDir(), []string{backend.URL()}
	write := func(text string) string {
		file := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	c.SecretFile = write("a secret that is long enough\n")
	for _, want := range []string{"", "true"} {
		if status, _, replayed, _ := once(t, c); status != 200 || replayed != want {
			t.Errorf("%d %q", status, replayed)
		}
	}
	others := []string{"", write("another secret, long enough")}
	for _, other := range others {
		c.SecretFile = other
		if _, err := app.New(c, zerolog.Nop()); err == nil || !strings.Contains(err.Error(), "add it to the file, on a line below the new") {
			t.Errorf("a start with another secret: %v", err)
		}
	}
	for _, other := range others {
		c.SecretFile, c.AcceptOrphans = other, true
		if status, body, _, _ := once(t, c); status != 500 || !strings.Contains(body, "recipe-unknown") {
			t.Errorf("with another secret: %d %s", status, body)
		}
	}
	c.AcceptOrphans = false
	c.SecretFile = write("another secret, long enough\n\na secret that is long enough\n")
	if status, _, replayed, _ := once(t, c); status != 200 || replayed != "true" {
		t.Errorf("with the earlier secret beside another: %d %q", status, replayed)
	}
	if n := backend.Executions("k"); n != 1 {
		t.Errorf("%d executions", n)
	}
	c.SecretFile = write("a secret that is long enough\ntoo short\n")
	if _, err := app.New(c, zerolog.Nop()); err == nil || !strings.Contains(err.Error(), "--secret-file") {
		t.Errorf("a short secret on another line: %v", err)
	}
	c.SecretFile = write("too short")
	if _, err := app.New(c, zerolog.Nop()); err == nil || !strings.Contains(err.Error(), "--secret-file") {
		t.Errorf("a short secret: %v", err)
	}
}
