package test_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// make run says which port is taken and what to set, before it builds or starts anything.
func TestRunSaysWhichPortIsTaken(t *testing.T) {
	t.Parallel()
	port := func(keep bool) string {
		l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		_, port, _ := net.SplitHostPort(l.Addr().String())
		if !keep {
			_ = l.Close()
		}
		return port
	}
	for _, setting := range []string{"IDEMPROXY_LISTEN=127.0.0.1:", "IDEMPROXY_ADMIN=127.0.0.1:", "BACKEND_PORT="} {
		env := os.Environ()
		for _, one := range []string{"IDEMPROXY_LISTEN=127.0.0.1:", "IDEMPROXY_ADMIN=127.0.0.1:", "BACKEND_PORT="} {
			if one != setting {
				env = append(env, one+port(false))
			}
		}
		taken := port(true)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		run := exec.CommandContext(ctx, "../scripts/run.sh")
		run.Env, run.WaitDelay = append(env, setting+taken, "TMPDIR="+t.TempDir()), time.Second
		var out, problem bytes.Buffer
		run.Stdout, run.Stderr = &out, &problem
		err := run.Run()
		cancel()
		name, _, _ := strings.Cut(setting, "=")
		text := problem.String()
		if err == nil || !strings.Contains(text, "another process has port "+taken) || !strings.Contains(text, name+"=") || out.Len() > 0 {
			t.Errorf("%s%s: %v, %s%s", setting, taken, err, out.String(), text)
		}
	}
}
