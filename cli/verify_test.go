package cli_test

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// What verify says of a URL is what is so, and it executes no more than it says.
func TestVerify(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		change     func(*config.Config)
		direct     bool
		executions int64
		code       int
		says       []string
	}{
		{"protected", nil, false, 3, 0, []string{
			"first request  protected", "retry          protected", "another body   protected", "the proxy's problem key-reused",
			"two at once    protected", "without a key  for you to know",
		}},
		{"a key is required", func(c *config.Config) { c.RequireKey = true }, false, 2, 0, []string{"without a key  protected"}},
		{"waiting", func(c *config.Config) { c.InProgress = config.MeanwhileWait }, false, 3, 0, []string{"two at once    protected"}},
		{"observed", func(c *config.Config) { c.Observe = true }, false, 2, 1, []string{"retry          NOT PROTECTED", "it was executed again"}},
		{"no proxy", nil, true, 2, 1, []string{"retry          NOT PROTECTED"}},
		{
			"the body does not count", func(c *config.Config) { c.Fingerprint = []string{"method", "target"} }, false, 3, 1,
			[]string{"another body   NOT PROTECTED", "two at once    protected"},
		},
		{"nothing is kept", func(c *config.Config) { c.ReleaseStatuses = []string{"2xx"} }, false, 2, 1, []string{"retry          NOT PROTECTED"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var executions atomic.Int64
			b := backendtest.Start(t, func(conn backendtest.Conn, _ *backendtest.Request) {
				executions.Add(1)
				conn.Answer(201, "made")
			})
			url := b.URL()
			if !c.direct {
				change := c.change
				if change == nil {
					change = func(*config.Config) {}
				}
				a, _ := run(t, b.URL(), change)
				url = a.URL()
			}
			code, out := command(t, "verify", url+"/pay", "-d", `{"amount":5}`, "--execute")
			if code != c.code || executions.Load() != c.executions {
				t.Errorf("exit code %d, want %d; %d executions, want %d:\n%s", code, c.code, executions.Load(), c.executions, out)
			}
			for _, want := range c.says {
				if !strings.Contains(out, want) {
					t.Errorf("it does not say %q:\n%s", want, out)
				}
			}
		})
	}
}

// Two that meet: the second gets 409, and the step says what a client does then.
func TestVerifyConflict(t *testing.T) {
	t.Parallel()
	var executions atomic.Int64
	conflict := make(chan struct{})
	b := backendtest.Start(t, func(conn backendtest.Conn, q *backendtest.Request) {
		if executions.Add(1) == 2 { // of the two at once
			<-conflict
		}
		backendtest.OK(conn, q)
	})
	a, logged := run(t, b.URL(), func(*config.Config) {})
	done := make(chan string, 1)
	go func() {
		_, out := command(t, "verify", a.URL(), "-d", "a=b", "--execute")
		done <- out
	}()
	for !strings.Contains(logged.text(), `"outcome":"in-progress"`) {
		select {
		case out := <-done:
			t.Fatal(out)
		default:
		}
	}
	close(conflict)
	if out := <-done; !strings.Contains(out, "problem in-progress, Retry-After: 1") || !strings.Contains(out, "retry with the same key after Retry-After") {
		t.Error(out)
	}
}

// Without a word that it may, nothing is sent.
func TestVerifyUsage(t *testing.T) {
	t.Parallel()
	b := backendtest.Start(t, func(backendtest.Conn, *backendtest.Request) { t.Error("a request was sent") })
	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{2, "say --execute if it may", []string{b.URL()}},
		{2, "the URL ftp://a: want http://HOST/PATH", []string{"ftp://a", "--execute"}},
		{2, "the URL localhost:8080/pay: want http://HOST/PATH", []string{"localhost:8080/pay", "--execute"}},
		{2, "the URL ***@test.example:80/pay?***: want", []string{"me:hunter2@test.example:80/pay?token=hunter2", "--execute"}},
		{2, "the URL htps://***@test.example/pay?***: want", []string{"htps://hunter2@test.example/pay?hunter2", "--execute"}},
		{2, "the URL ***: want", []string{"hunter2://test.example", "--execute"}},
		{2, "the URL http://***: want", []string{"http://me:hun/ter2@test.example", "--execute"}},
		{2, "want another body", []string{b.URL(), "-d", "x", "--other-data", "x", "--execute"}},
		{2, "want NAME: VALUE", []string{b.URL(), "-H", "x", "--execute"}},
		{1, "there was no whole answer", []string{"http://127.0.0.1:1/", "--execute"}},
	} {
		code, out := command(t, append([]string{"verify"}, c.args...)...)
		if code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("%v: %d %s, want %d %q", c.args, code, out, c.code, c.want)
		}
		if strings.Contains(out, "ter2") {
			t.Errorf("%v: a secret is shown: %s", c.args, out)
		}
	}
}

// One that replays retries, and nothing else: another body and the second of two at once are
// executed, and each is said.
func TestVerifyHalfAProxy(t *testing.T) {
	t.Parallel()
	b := backendtest.Start(t, func(conn backendtest.Conn, q *backendtest.Request) {
		if q.Number == 2 && string(q.Payload) == "a=b" {
			conn.Answer(200, "made", "Idempotent-Replayed: true")
			return
		}
		conn.Answer(200, "made")
	})
	code, out := command(t, "verify", b.URL(), "-d", "a=b", "--execute")
	if code != 1 || !strings.Contains(out, "another body   NOT PROTECTED\n") || !strings.Contains(out, "another body was executed with a used key") {
		t.Errorf("%d %s", code, out)
	}
	var seen atomic.Int64
	b = backendtest.Start(t, func(conn backendtest.Conn, _ *backendtest.Request) {
		switch seen.Add(1) {
		case 2:
			conn.Answer(200, "made", "Idempotent-Replayed: true")
		default: // also another body, and both of two at once
			conn.Answer(200, "made")
		}
	})
	code, out = command(t, "verify", b.URL(), "-d", "a=b", "--execute")
	if code != 1 || !strings.Contains(out, "two at once    NOT PROTECTED") || !strings.Contains(out, "both were executed") {
		t.Errorf("%d %s", code, out)
	}
	seen.Store(0)
	b = backendtest.Start(t, func(conn backendtest.Conn, _ *backendtest.Request) {
		if seen.Add(1) == 2 {
			conn.Answer(200, "something else", "Idempotent-Replayed: true")
			return
		}
		conn.Answer(200, "made")
	})
	if code, out = command(t, "verify", b.URL(), "-d", "a=b", "--execute"); code != 1 || !strings.Contains(out, "not as the first was answered") {
		t.Errorf("%d %s", code, out)
	}
}
