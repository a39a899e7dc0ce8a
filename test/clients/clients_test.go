package clients_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

// client sends one request by its own means, and returns the status of the answer that it ends with, 0 for
// none. prefer is the Prefer header, if it is not empty.
type client func(t *testing.T, url, prefer string) (status int)

func clients() map[string]client {
	return map[string]client{
		"net/http":         byNetHTTP,
		"go-retryablehttp": byRetryable,
		"curl --retry":     func(t *testing.T, url, prefer string) int { return byCurl(t, url, prefer) },
		"curl --retry --retry-all-errors": func(t *testing.T, url, prefer string) int {
			return byCurl(t, url, prefer, "--retry-all-errors")
		},
		"wget": func(t *testing.T, url, prefer string) int { return byWget(t, url, prefer) },
		"wget --retry-on-http-error": func(t *testing.T, url, prefer string) int {
			return byWget(t, url, prefer, "--retry-on-http-error=503")
		},
	}
}

func request(t *testing.T, url, prefer string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader("amount=5"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Idempotency-Key", "op-1")
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded") // as curl and wget say
	if prefer != "" {
		req.Header.Set("Prefer", prefer)
	}
	return req
}

func statusOf(resp *http.Response, err error) int {
	if err != nil {
		return 0
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return resp.StatusCode
}

func byNetHTTP(t *testing.T, url, prefer string) int {
	c := &http.Client{Transport: &http.Transport{}}
	defer c.CloseIdleConnections()
	return statusOf(c.Do(request(t, url, prefer)))
}

func byRetryable(t *testing.T, url, prefer string) int {
	c := retryablehttp.NewClient()
	c.Logger, c.RetryMax, c.RetryWaitMin, c.RetryWaitMax = nil, 1, time.Millisecond, time.Millisecond
	c.ErrorHandler = retryablehttp.PassthroughErrorHandler
	req, err := retryablehttp.FromRequest(request(t, url, prefer))
	if err != nil {
		t.Fatal(err)
	}
	return statusOf(c.Do(req))
}

// said runs a program that prints the status of its last answer, or nothing of use.
func said(t *testing.T, command ...string) (status int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput()
	if _, ended := err.(*exec.ExitError); err != nil && !ended { //nolint:errorlint // exec's own
		t.Fatalf("%s (scripts/test.sh installs it): %v", command[0], err)
	}
	for line := range strings.Lines(string(out)) {
		_, _ = fmt.Sscanf(strings.TrimSpace(line), "HTTP/1.1 %d", &status) // the last one
	}
	return status
}

func byCurl(t *testing.T, url, prefer string, more ...string) int {
	t.Helper()
	args := append([]string{"curl", "-si", "--retry", "1", "--retry-delay", "1", "-H", "Idempotency-Key: op-1", "-d", "amount=5"}, more...)
	if prefer != "" {
		args = append(args, "-H", "Prefer: "+prefer)
	}
	return said(t, append(args, url)...)
}

func byWget(t *testing.T, url, prefer string, more ...string) int {
	t.Helper()
	args := append([]string{
		"wget", "-S", "-O", "/dev/null", "--tries=2", "--waitretry=0", "--header=Idempotency-Key: op-1", "--post-data=amount=5",
	}, more...)
	if prefer != "" {
		args = append(args, "--header=Prefer: "+prefer)
	}
	return said(t, append(args, url)...)
}

// noAnswer is a connection that ends without an answer.
const noAnswer = "no answer"

// A row for each client: what it repeats. Everything else it gives to its caller at once.
func TestWhatClientsRepeat(t *testing.T) {
	t.Parallel()
	for name, repeats := range map[string][]string{
		"net/http":                        {},
		"go-retryablehttp":                {noAnswer, "429", "500", "502", "503", "504"},
		"curl --retry":                    {"408", "429", "500", "502", "503", "504"},
		"curl --retry --retry-all-errors": {noAnswer, "408", "429", "500", "502", "503", "504"},
		"wget":                            {noAnswer, "504"},
		"wget --retry-on-http-error":      {noAnswer, "503", "504"},
	} {
		for _, answer := range []string{noAnswer, "408", "409", "422", "425", "429", "500", "501", "502", "503", "504"} {
			t.Run(name+"/"+answer, func(t *testing.T) {
				t.Parallel()
				var tries atomic.Int32
				s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					if tries.Add(1) > 1 {
						w.WriteHeader(http.StatusCreated)
						return
					}
					if answer == noAnswer {
						panic(http.ErrAbortHandler)
					}
					status := 0
					_, _ = fmt.Sscan(answer, &status)
					w.WriteHeader(status)
				}))
				defer s.Close()
				want := int32(1)
				for _, r := range repeats {
					if r == answer {
						want = 2
					}
				}
				if status := clients()[name](t, s.URL, ""); tries.Load() != want || (want == 2) != (status == http.StatusCreated) {
					t.Errorf("%d tries, want %d; it ended with %d", tries.Load(), want, status)
				}
			})
		}
	}
}

// Go's own client repeats a request with a key if the kept connection broke that it went by.
func TestNetHTTPRepeatsOnAKeptConnection(t *testing.T) {
	t.Parallel()
	for _, keyed := range []bool{true, false} {
		var tries atomic.Int32
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if tries.Add(1) == 2 {
				panic(http.ErrAbortHandler)
			}
			w.WriteHeader(http.StatusCreated)
		}))
		c := &http.Client{Transport: &http.Transport{}}
		for n, want := range []int{http.StatusCreated, http.StatusCreated} {
			req := request(t, s.URL, "")
			if !keyed {
				req.Header.Del("Idempotency-Key")
				want = []int{http.StatusCreated, 0}[n]
			}
			if status := statusOf(c.Do(req)); status != want {
				t.Errorf("with a key: %v: request %d ended with %d, want %d", keyed, n, status, want)
			}
		}
		c.CloseIdleConnections()
		s.Close()
	}
}
