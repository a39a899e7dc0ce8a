package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/idemproxy/idemproxy/internal/redact"
)

// verifier is a client that tries a URL out.
type verifier struct {
	client              *http.Client
	target, method      string
	body, other         string
	header              http.Header
	keyHeader           string
	first               *answered
	firstKey, secondKey string
}

// newVerifier sends each request once, over a connection of its own: on one that was used before,
// the library repeats a request with a key by itself.
func newVerifier() *verifier {
	return &verifier{client: &http.Client{
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Verdicts of a step.
const (
	isProtected  = "protected"
	notProtected = "NOT PROTECTED"
	cannotTell   = "cannot tell"
	forYou       = "for you to know"
)

// step is what came of one thing that was tried.
type step struct {
	Step    string   `json:"step"`
	Verdict string   `json:"verdict"`
	Answers []string `json:"answers"`
	Means   string   `json:"means"`
	Client  string   `json:"client,omitempty"` // what a client should do when it is answered so
}

// answered is what was answered to one request.
type answered struct {
	status     int
	body       []byte
	replayed   bool
	problem    string // of the proxy's own answers, the name of its type
	retryAfter string
	took       time.Duration
	err        error
}

// mostRead bounds what is compared of an answer.
const mostRead = 16 << 20

// String is the answer in one line.
func (a *answered) String() string {
	if a.err != nil {
		return "nothing: " + a.err.Error()
	}
	text := fmt.Sprintf("%d, %d bytes, %v", a.status, len(a.body), a.took.Round(time.Millisecond))
	if a.replayed {
		text += ", Idempotent-Replayed: true"
	}
	if a.problem != "" {
		text += ", the proxy's problem " + a.problem
	}
	if a.retryAfter != "" {
		text += ", Retry-After: " + a.retryAfter
	}
	return text
}

// executed says that the backend answered, and not the proxy.
func (a *answered) executed() bool { return a.err == nil && a.problem == "" && !a.replayed }

// send sends one request; key may be empty for none.
func (v *verifier) send(ctx context.Context, key, body string) *answered {
	a := &answered{}
	req, err := http.NewRequestWithContext(ctx, v.method, v.target, strings.NewReader(body))
	if err != nil {
		a.err = redact.Error(err, v.target)
		return a
	}
	req.Header = v.header.Clone()
	if key != "" {
		req.Header.Set(v.keyHeader, key)
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	begun := time.Now()
	resp, err := v.client.Do(req)
	if err != nil {
		a.err = redact.Error(err, v.target)
		return a
	}
	defer func() { _ = resp.Body.Close() }()
	a.body, a.err = io.ReadAll(io.LimitReader(resp.Body, mostRead))
	a.took, a.status = time.Since(begun), resp.StatusCode
	a.replayed, a.retryAfter = resp.Header.Get("Idempotent-Replayed") == "true", resp.Header.Get("Retry-After")
	var problem struct{ Type string }
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/problem+json") && json.Unmarshal(a.body, &problem) == nil {
		if _, name, ours := strings.Cut(problem.Type, "/docs/problems.md#"); ours && !a.replayed {
			a.problem = name
		}
	}
	return a
}

// run tries everything; what needs what came before ends where that failed.
func (v *verifier) run(ctx context.Context) []step {
	v.firstKey, v.secondKey = "verify-"+rand.Text(), "verify-"+rand.Text()
	steps := []step{v.tryFirst(ctx)}
	if steps[0].Verdict == cannotTell {
		return steps
	}
	steps = append(steps, v.tryRetry(ctx))
	if steps[1].Verdict != isProtected {
		return steps // each further request would be executed
	}
	return append(steps, v.tryMismatch(ctx), v.tryConcurrent(ctx), v.tryMissing(ctx))
}

func stepOf(name string, all ...*answered) step {
	s := step{Step: name}
	for _, a := range all {
		s.Answers = append(s.Answers, a.String())
	}
	return s
}

// says completes a step.
func (s step) says(verdict, means, client string) step {
	s.Verdict, s.Means, s.Client = verdict, means, client
	return s
}

func (v *verifier) tryFirst(ctx context.Context) step {
	v.first = v.send(ctx, v.firstKey, v.body)
	s := stepOf("first request", v.first)
	switch a := v.first; {
	case a.err != nil:
		return s.says(cannotTell,
			"there was no whole answer: nothing can be tried", "retry with the same key: that is what keys are for")
	case a.problem != "":
		return s.says(cannotTell, "the proxy refused it: see docs/problems.md#"+a.problem, "look at retryable in the problem")
	case a.replayed:
		return s.says(cannotTell, "a key that was never used got a replay: something in between remembers answers", "")
	case a.status >= 400:
		return s.says(cannotTell, "the backend refuses this request: send one that it takes (-X, -d, -H)", "")
	}
	return s.says(isProtected,
		"the backend executed it", "make a new key for each operation, and keep it until the operation is over")
}

func (v *verifier) tryRetry(ctx context.Context) step {
	a := v.send(ctx, v.firstKey, v.body)
	s := stepOf("retry", a)
	same := a.status == v.first.status && bytes.Equal(a.body, v.first.body)
	switch {
	case a.err != nil:
		return s.says(cannotTell, "there was no whole answer", "")
	case a.replayed && same:
		return s.says(isProtected, "it got the first answer, and was not executed", "take it for the answer to the first request")
	case a.replayed:
		return s.says(notProtected, "it was replayed, but not as the first was answered", "")
	case a.problem != "":
		return s.says(cannotTell, "the proxy answered otherwise: see docs/problems.md#"+a.problem, "")
	}
	return s.says(notProtected,
		"it was executed again. The request does not pass a proxy, its route only observes (mode, enforce), the key "+
			"goes into another field (--key-header), or the backend has it not kept (no-store, release_statuses)", "")
}

func (v *verifier) tryMismatch(ctx context.Context) step {
	a := v.send(ctx, v.firstKey, v.other)
	s := stepOf("another body", a)
	switch {
	case a.err != nil:
		return s.says(cannotTell, "there was no whole answer", "")
	case a.problem == "key-reused" && a.status == http.StatusUnprocessableEntity:
		return s.says(isProtected,
			"a key stands for one request", "do not retry: this is a fault of the client; use a new key for another operation")
	case a.replayed:
		return s.says(notProtected,
			"another body got the first one's answer: fingerprint has no body on this route, or not this part of it", "")
	case a.executed():
		return s.says(notProtected, "another body was executed with a used key", "")
	}
	return s.says(cannotTell, "the proxy answered otherwise: see docs/problems.md#"+a.problem, "")
}

func (v *verifier) tryConcurrent(ctx context.Context) step {
	var both [2]*answered
	var sending sync.WaitGroup
	for i := range both {
		sending.Go(func() { both[i] = v.send(ctx, v.secondKey, v.body) })
	}
	sending.Wait()
	s := stepOf("two at once", both[:]...)
	executed, replayed, conflicts := 0, 0, 0
	for _, a := range both {
		switch {
		case a.executed():
			executed++
		case a.replayed:
			replayed++
		case a.problem == "in-progress":
			conflicts++
		}
	}
	switch {
	case errors.Join(both[0].err, both[1].err) != nil:
		return s.says(cannotTell, "there was no whole answer", "")
	case executed > 1:
		return s.says(notProtected, "both were executed", "")
	case executed == 1 && conflicts == 1:
		return s.says(isProtected, "one was executed, and the other was refused while that ran",
			"a 409 in-progress is no failure: retry with the same key after Retry-After, or send Prefer: wait=10 to wait for the answer")
	case executed == 1 && replayed == 1:
		return s.says(isProtected,
			"one was executed, and the other got its answer: it waited, or the first was done before. A slower request "+
				"may get 409 here (in_progress)", "be ready for 409 in-progress: retry with the same key after Retry-After")
	}
	return s.says(cannotTell, "neither says that one was executed and the other was not", "")
}

func (v *verifier) tryMissing(ctx context.Context) step {
	a := v.send(ctx, "", v.body)
	s := stepOf("without a key", a)
	switch {
	case a.err != nil:
		return s.says(forYou, "there was no whole answer, and without a key nobody knows whether it was executed", "send a key")
	case a.problem == "key-missing":
		return s.says(isProtected, "requests without a key are refused (require_key)", "send a key")
	case a.problem != "":
		return s.says(forYou, "the proxy refused it: see docs/problems.md#"+a.problem, "send a key")
	}
	return s.says(forYou,
		"it was passed on: requests without a key are not protected here",
		"send a key with each request that you may have to retry")
}
