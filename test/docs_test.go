package test_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/proxy/backendtest"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// The quick start is run as it is printed, on other ports.
func TestQuickStart(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/quickstart.md")
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	for _, part := range strings.Split(string(text), "```sh\n")[1:] {
		block, _, _ := strings.Cut(part, "```")
		script.WriteString(block)
	}
	o, dir := newOrigin(t), t.TempDir()
	listen, admin, redis := redistest.FreePort(t), redistest.FreePort(t), redistest.FreePort(t)
	here := strings.NewReplacer(
		"make build", "true", "6379", fmt.Sprint(redis), "redis-cli", fmt.Sprintf("redis-cli -p %d", redis), "--dir /tmp", "--dir "+dir,
		"127.0.0.1:3000", o.addr, "localhost:8080", fmt.Sprintf("127.0.0.1:%d", listen),
		"bin/idemproxy check", binary+" check",
		"bin/idemproxy -c", fmt.Sprintf("%s --listen 127.0.0.1:%d --admin 127.0.0.1:%d -c", binary, listen, admin),
		"bin/idemproxy", fmt.Sprintf("IDEMPROXY_ADMIN=127.0.0.1:%d %s", admin, binary),
	).Replace(script.String())
	here = strings.ReplaceAll(here, "health --ready", fmt.Sprintf("health --ready --admin 127.0.0.1:%d", admin))
	here = strings.ReplaceAll(here, "inspect pay-1", fmt.Sprintf("inspect pay-1 --admin 127.0.0.1:%d", admin))
	here = strings.ReplaceAll(here, "list --state", fmt.Sprintf("list --admin 127.0.0.1:%d --state", admin))
	cmd := exec.Command("bash", "-c", here)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v", err)
	}
	for _, want := range []string{
		`"status":"ready"`, "HTTP/1.1 200 OK", "Idempotent-Replayed: true", "state        completed", "key:53f0d35c4b70  pay-1", "HTTP/1.1 400 Bad Request",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("nothing says %q", want)
		}
	}
	o.executions("pay-1", 1)
	if t.Failed() {
		t.Logf("%s\nprinted\n%s", here, out)
	}
}

// Each command of the runbook is one that exists, with flags that exist. The evenings try what they do.
func TestRunbookCommands(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/runbook.md")
	if err != nil {
		t.Fatal(err)
	}
	e := stage(t, "store: embedded:"+t.TempDir()+"\nbackend: "+newOrigin(t).url()+"\n")
	e.write("not-executed.txt", "order-1\nkey:9f86d081884c\n")
	e.write("executed.txt", "order-2\n")
	n := 0
	for _, lines := range e.blocks(string(text)) {
		for _, line := range lines {
			if strings.HasPrefix(line, "export ") || strings.HasPrefix(line, "systemctl ") {
				continue
			}
			n++
			if out := e.run(line); e.code > 1 { // 1 says of a key that is not there that it is not
				t.Errorf("%s: exit code %d: %s", line, e.code, out)
			}
		}
	}
	if n < 25 {
		t.Errorf("only %d commands found", n)
	}
}

// The recipes for clients are what the page shows, and get through faults with one
// execution: the first try is cut before it is executed, the second is refused,
// the third loses its answer.
func TestClientRecipes(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	recipes := map[string][]string{
		"retry.sh": {"sh"}, "retry.py": {"python3"}, "retry.mjs": {"node"}, "retry.go": {"go", "run"},
	}
	if javaCompiled(t) != "" {
		recipes["Retry.java"] = []string{"java"}
	}
	for file, command := range recipes {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			path, err := filepath.Abs(filepath.Join("../docs/examples/clients", file))
			if err != nil {
				t.Fatal(err)
			}
			source, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(page), string(source)) {
				t.Error("docs/clients.md shows something else")
			}
			b := backendtest.Start(t, func(c backendtest.Conn, q *backendtest.Request) {
				switch q.Number {
				case 1:
					c.Answer(503, "later")
				default:
					c.Answer(201, "made "+string(q.Payload))
				}
			})
			p := start(t, "--backend", b.URL(), "--store", "embedded:"+t.TempDir())
			cmd := exec.Command(command[0], append(command[1:], path, "http://"+losesAnswers(t, strings.TrimPrefix(p.url, "http://"))+"/", "op-1", "7")...)
			cmd.Dir = t.TempDir()
			cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod")
			out, err := cmd.CombinedOutput()
			if err != nil || strings.TrimSpace(string(out)) != "201 made 7" {
				t.Errorf("%v: %s", err, out)
			}
			if n := b.Executions("op-1"); n != 2 { // the one that said "later", and the one that was done
				t.Errorf("%d executions, want 2", n)
			}
		})
	}
}

// losesAnswers stands in front of addr: its first connection is closed at once,
// and the third loses the answer.
func losesAnswers(t *testing.T, addr string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for n := 1; ; n++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if n == 1 {
				_ = c.Close()
				continue
			}
			// One request a connection, so that they can be counted.
			go relayOnce(c, addr, n == 3)
		}
	}()
	return ln.Addr().String()
}

// relayOnce passes one request on, and its answer, unless that is lost.
func relayOnce(c net.Conn, addr string, lose bool) {
	defer func() { _ = c.Close() }()
	to, err := net.Dial("tcp", addr) //nolint:noctx // a test
	if err != nil {
		return
	}
	defer func() { _ = to.Close() }()
	buf := make([]byte, 64<<10)
	go func() {
		b := make([]byte, 64<<10)
		for {
			n, err := c.Read(b)
			if n > 0 {
				_, _ = to.Write(b[:n])
			}
			if err != nil {
				return
			}
		}
	}()
	n, err := to.Read(buf) // the answers here fit into one read
	if err == nil && !lose {
		_, _ = c.Write(buf[:n])
	}
}
