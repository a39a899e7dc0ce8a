// Package compose_test brings docker-compose.yml up for real, where a Docker
// engine answers, and runs the customer's scenarios A and C through it.
package compose_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// stage is docker-compose.yml on ports of its own.
type stage struct {
	t                         *testing.T
	proxy, backend, toxiproxy string
}

// up brings it up with a store: redis or postgres, as `make up` does.
func up(t *testing.T, store string) *stage {
	t.Helper()
	const probe = `. scripts/need.sh; engine`
	if err := shell(context.Background(), probe, nil).Run(); err != nil {
		t.Skip("no Docker engine answers here; scenarios A and C run natively in package test")
	}
	ports := map[string]int{}
	for _, name := range []string{"REDIS_PORT", "POSTGRES_PORT", "BACKEND_PORT", "TOXIPROXY_PORT", "PIPE_PORT", "IDEMPROXY_PORT", "ADMIN_PORT"} {
		ports[name] = redistest.FreePort(t)
	}
	env := []string{fmt.Sprintf("COMPOSE_PROJECT_NAME=idemproxytest%d", os.Getpid())}
	// The user in the container is another one, who reads it all the same; see scripts/up.sh.
	token := filepath.Join(t.TempDir(), "admin-token")
	if err := os.WriteFile(token, []byte("of-compose-and-its-test"), 0o644); err != nil {
		t.Fatal(err)
	}
	env = append(env, "ADMIN_TOKEN_FILE="+token)
	if store == "postgres" {
		env = append(env, "COMPOSE_PROFILES=postgres", "STORE_URL=postgres://idemproxy@postgres:5432/idemproxy?sslmode=disable")
	}
	for name, port := range ports {
		env = append(env, fmt.Sprintf("%s=%d", name, port))
	}
	compose := func(args string) string {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		out, err := shell(ctx, ". scripts/need.sh; compose "+args, env).CombinedOutput()
		if err != nil {
			t.Errorf("compose %s: %v\n%s", args, err, out)
		}
		return string(out)
	}
	if out, err := shell(context.Background(), "scripts/images.sh", []string{"STORE=" + store}).CombinedOutput(); err != nil {
		t.Fatalf("making the images: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(compose("logs"))
		}
		compose("down -v")
	})
	compose("up -d")
	local := func(name string) string { return fmt.Sprintf("http://127.0.0.1:%d", ports[name]) }
	s := &stage{t: t, proxy: local("IDEMPROXY_PORT"), backend: local("BACKEND_PORT"), toxiproxy: local("TOXIPROXY_PORT")}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if resp, err := http.Get(local("ADMIN_PORT") + "/readyz?require=store"); err == nil { //nolint:noctx // a test
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return s
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("the proxy does not become ready")
		}
	}
}

func shell(ctx context.Context, script string, env []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), env...)
	cmd.Env = append(cmd.Env, "CGO_ENABLED=0")
	return cmd
}

func (s *stage) request(method, url, key, body string) (status int, text string, replayed bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("X-Idempotency-Key", key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Error(err)
		return 0, "", false
	}
	defer func() { _ = resp.Body.Close() }()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), resp.Header.Get("Idempotent-Replayed") == "true"
}

func (s *stage) executions(key string, want int) {
	s.t.Helper()
	_, text, _ := s.request(http.MethodGet, s.backend+"/executions?key="+key, "", "")
	if !strings.Contains(text, fmt.Sprintf(`"executions":%d,`, want)) {
		s.t.Errorf("key %s: %s, want %d executions", key, text, want)
	}
}

func TestScenariosInDocker(t *testing.T) {
	for _, store := range []string{"redis", "postgres"} {
		t.Run(store, func(t *testing.T) { scenarios(t, up(t, store)) })
	}
}

func scenarios(t *testing.T, s *stage) {
	t.Helper()
	t.Run("A", func(t *testing.T) {
		_, first, _ := s.request(http.MethodPost, s.proxy+"/", "a", "x")
		for range 3 {
			if status, text, replayed := s.request(http.MethodPost, s.proxy+"/", "a", "x"); status != 200 || text != first || !replayed {
				t.Errorf("the replay is %d %q (replayed: %v), was %q", status, text, replayed, first)
			}
		}
		s.executions("a", 1)
		var mu sync.Mutex
		var done sync.WaitGroup
		const late = 0
		count := map[int]int{}
		for range 200 {
			done.Go(func() {
				status, _, replayed := s.request(http.MethodPost, s.proxy+"/slow?d=1s", "a2", "x")
				// A busy machine's store may not answer in time: nothing was done, and a client tries again.
				for end := time.Now().Add(time.Minute); status == 500 && time.Now().Before(end); {
					time.Sleep(100 * time.Millisecond)
					status, _, replayed = s.request(http.MethodPost, s.proxy+"/slow?d=1s", "a2", "x")
				}
				mu.Lock()
				defer mu.Unlock()
				if replayed {
					status = late // on a slow machine, some come when it has ended
				}
				count[status]++
			})
		}
		done.Wait()
		if count[200] != 1 || count[409] == 0 || count[409]+count[late] != 199 {
			t.Errorf("200 at once got %v", count)
		}
		s.executions("a2", 1)
	})
	t.Run("C", func(t *testing.T) {
		toxics := s.toxiproxy + "/proxies/backend_pipe/toxics"
		s.request(http.MethodPost, toxics, "", `{"name":"cut","type":"limit_data","stream":"downstream","attributes":{"bytes":10}}`)
		if status, text, _ := s.request(http.MethodPost, s.proxy+"/", "c", "x"); status != 502 {
			t.Errorf("cut: %d %q", status, text)
		}
		s.request(http.MethodDelete, toxics+"/cut", "", "")
		_, first, _ := s.request(http.MethodPost, s.proxy+"/", "c", "x")
		if status, text, replayed := s.request(http.MethodPost, s.proxy+"/", "c", "x"); status != 200 || text != first || !replayed {
			t.Errorf("the replay is %d %q (replayed: %v), was %q", status, text, replayed, first)
		}
		s.executions("c", 2)
	})
}
