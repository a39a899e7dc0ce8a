package sdk

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/imagebuilder"
	"github.com/aws/aws-sdk-go-v2/service/imagebuilder/types"
	"github.com/stripe/stripe-go/v82"
	"github.com/stripe/stripe-go/v82/customer"
)

// backend counts what it executes, and can be made to wait.
type backend struct {
	*httptest.Server
	mu       sync.Mutex
	executed int           // guarded by mu
	wait     chan struct{} // nil: it does not
	entered  chan struct{} // has a place for each request that does
}

func newBackend(t *testing.T, body string, wait chan struct{}) *backend {
	t.Helper()
	b := &backend{wait: wait, entered: make(chan struct{}, 8)}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		b.mu.Lock()
		b.executed++
		b.mu.Unlock()
		if b.wait != nil {
			b.entered <- struct{}{}
			<-b.wait
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(b.Close)
	return b
}

func (b *backend) executions(t *testing.T, want int) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.executed != want {
		t.Errorf("%d executions, want %d", b.executed, want)
	}
}

// program builds the proxy once.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "idemproxy-sdk")
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "idemproxy")
	build := exec.Command("go", "build", "-o", file, "./cmd/proxy")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return file, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if file, err := program(); err == nil {
		_ = os.RemoveAll(filepath.Dir(file))
	}
	os.Exit(code)
}

// start runs a proxy with a preset before a backend, and is its URL.
func start(t *testing.T, preset, backend string, args ...string) string {
	t.Helper()
	file, err := program()
	if err != nil {
		t.Fatal(err)
	}
	args = append([]string{
		"--listen", "127.0.0.1:0", "--admin", "", "--backend", backend, "--store", "embedded:" + t.TempDir(), "--preset", preset,
	}, args...)
	cmd := exec.Command(file, args...)
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines, ended, all := bufio.NewScanner(out), make(chan struct{}), ""
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		<-ended
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(all)
		}
	})
	listening := make(chan string, 1)
	go func() {
		defer close(ended)
		for lines.Scan() {
			all += lines.Text() + "\n"
			var l struct{ Event, Listen string }
			if json.Unmarshal(lines.Bytes(), &l) == nil && l.Event == "started" {
				listening <- "http://" + l.Listen
			}
		}
		close(listening)
	}()
	url, ok := <-listening
	if !ok {
		t.Fatal("the proxy does not start")
	}
	return url
}

// lossy loses answers: those of the first tries.
type lossy struct {
	lose     int
	statuses []int
	// early gives the first try up once it is executed, while it goes on: done is closed
	// when it has ended. sends is called before each later one; nil for nothing.
	early, done chan struct{}
	sends       func()
}

var errLost = errors.New("the connection broke")

func (l *lossy) RoundTrip(r *http.Request) (*http.Response, error) {
	if early := l.early; early != nil {
		l.early = nil
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		first := r.Clone(context.Background())
		first.Body = io.NopCloser(bytes.NewReader(body))
		go func() {
			defer close(l.done)
			if resp, err := http.DefaultTransport.RoundTrip(first); err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		}()
		<-early
		return nil, errLost
	}
	if l.sends != nil {
		l.sends()
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	l.statuses = append(l.statuses, resp.StatusCode)
	if l.lose > 0 {
		l.lose--
		_ = resp.Body.Close()
		return nil, errLost
	}
	return resp, nil
}

func customers(t *testing.T, url string, via *lossy) customer.Client {
	t.Helper()
	b := stripe.GetBackendWithConfig(stripe.APIBackend, &stripe.BackendConfig{
		URL: stripe.String(url), HTTPClient: &http.Client{Transport: via}, MaxNetworkRetries: stripe.Int64(3),
		LeveledLogger: &stripe.LeveledLogger{Level: stripe.LevelNull},
	})
	b.(*stripe.BackendImplementation).SetNetworkRetriesSleep(false)
	return customer.Client{B: b, Key: "sk_test_x"}
}

const aCustomer = `{"id":"cus_1","object":"customer"}`

// An answer that is lost is asked for again by stripe-go, with the key that it made, and
// comes from the proxy.
func TestStripeLosesAnswers(t *testing.T) {
	t.Parallel()
	b := newBackend(t, aCustomer, nil)
	via := &lossy{lose: 2}
	got, err := customers(t, start(t, "stripe", b.URL), via).New(&stripe.CustomerParams{Email: stripe.String("a@example.com")})
	if err != nil || got.ID != "cus_1" {
		t.Fatalf("%v, %v", got, err)
	}
	if got.LastResponse.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("%v", got.LastResponse.Header)
	}
	b.executions(t, 1)
}

// A retry that comes while the first try is still executed gets an error that stripe-go can
// read, or with in_progress: wait the response.
func TestStripeMeetsWhatIsInProgress(t *testing.T) {
	t.Parallel()
	for _, waits := range []bool{false, true} {
		t.Run(fmt.Sprint("waits ", waits), func(t *testing.T) {
			t.Parallel()
			proceed := make(chan struct{})
			b := newBackend(t, aCustomer, proceed)
			let := sync.OnceFunc(func() { close(proceed) })
			t.Cleanup(let)
			via := &lossy{early: b.entered, done: make(chan struct{})}
			args := []string{}
			if waits {
				args = append(args, "--in-progress", "wait")
				via.sends = let
			}
			got, err := customers(t, start(t, "stripe", b.URL, args...), via).New(&stripe.CustomerParams{Email: stripe.String("a@example.com")})
			var e *stripe.Error
			switch {
			case waits && (err != nil || got.ID != "cus_1" || got.LastResponse.Header.Get("Idempotent-Replayed") != "true"):
				t.Errorf("%v, %v; statuses %v", got, err, via.statuses)
			case !waits && (!errors.As(err, &e) || e.HTTPStatusCode != 409 || e.Code != stripe.ErrorCodeIdempotencyKeyInUse):
				t.Errorf("%#v", err)
			}
			let()
			<-via.done
			b.executions(t, 1)
		})
	}
}

// Another request with the key is an error that stripe-go can read, and does not repeat.
func TestStripeReadsMismatches(t *testing.T) {
	t.Parallel()
	b := newBackend(t, aCustomer, nil)
	via := &lossy{}
	c := customers(t, start(t, "stripe", b.URL), via)
	for i, email := range []string{"a@example.com", "b@example.com"} {
		p := &stripe.CustomerParams{Email: stripe.String(email)}
		p.SetIdempotencyKey("mine")
		_, err := c.New(p)
		var e *stripe.Error
		switch {
		case i == 0 && err != nil:
			t.Fatal(err)
		case i == 1 && (!errors.As(err, &e) || e.Type != stripe.ErrorTypeIdempotency || e.HTTPStatusCode != 400 || e.Msg == ""):
			t.Errorf("%#v", err)
		}
	}
	if len(via.statuses) != 2 {
		t.Errorf("it was repeated: %v", via.statuses)
	}
	b.executions(t, 1)
}

// The token that AWS's SDK makes is the key; a token that is used for something else is an
// error of the SDK's own type.
func TestAWSClientTokens(t *testing.T) {
	t.Parallel()
	b := newBackend(t, `{"componentBuildVersionArn":"arn:1"}`, nil)
	via := &lossy{lose: 1}
	client := imagebuilder.New(imagebuilder.Options{
		BaseEndpoint: aws.String(start(t, "aws-client-token", b.URL)), Region: "eu-west-1", HTTPClient: &http.Client{Transport: via},
		Credentials: credentials.NewStaticCredentialsProvider("AKID", "secret", ""),
	})
	ask := func(name string, token *string) error {
		_, err := client.CreateComponent(context.Background(), &imagebuilder.CreateComponentInput{
			Name: aws.String(name), Platform: types.PlatformLinux, SemanticVersion: aws.String("1.0.0"), ClientToken: token,
		})
		return err
	}
	if err := ask("a", nil); err != nil {
		t.Fatalf("%v; statuses %v", err, via.statuses)
	}
	b.executions(t, 1)
	if err := ask("b", aws.String("mine")); err != nil {
		t.Fatal(err)
	}
	var mismatch *types.IdempotentParameterMismatchException
	if err := ask("c", aws.String("mine")); !errors.As(err, &mismatch) {
		t.Errorf("%#v", err)
	}
	b.executions(t, 2)
}
