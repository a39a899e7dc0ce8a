package proxy_test

import (
	"encoding/json"
	"encoding/xml"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// Errors have the form and the status that the route has for them, and the key and the
// reason can break out of neither.
func TestShapesOfErrors(t *testing.T) {
	t.Parallel()
	has := map[string][2]string{ // in a mismatch, and in what is malformed
		"stripe": {`{"error":{"type":"idempotency_error","message":"The body differs. This key`, `{"error":{"type":"invalid_request_error","message":"the key`},
		"square": {`"code":"IDEMPOTENCY_KEY_REUSED"`, `"code":"BAD_REQUEST"`},
		"paypal": {`"issue":"PAYPAL_REQUEST_ID_PREVIOUSLY_USED"`, `"issue":"KEY_INVALID"`},
		"google": {`"status":"INVALID_ARGUMENT","code":400`, `"status":"INVALID_ARGUMENT","code":400`},
		"aws":    {`"__type":"IdempotentParameterMismatchException"`, `"__type":"ValidationException"`},
		"graphql": {
			`"extensions":{"code":"IDEMPOTENCY_KEY_PARAMETER_MISMATCH"}`, `"extensions":{"code":"KEY_INVALID"}`,
		},
		"oasis":   {`"title":"Idempotency key reused"`, `"title":"Malformed idempotency key"`},
		"problem": {`"title":"Idempotency key reused"`, `"title":"Malformed idempotency key"`},
	}
	if got := proxy.Shapes(); len(got) != len(has) {
		t.Errorf("%v", got)
	}
	for _, shape := range proxy.Shapes() {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, backendtest.OK, func(c *proxy.Config) {
				c.Answers = proxy.Answers{Shape: shape, Mismatch: 400, MarkName: "X-Mark", MarkValue: "it is {key}"}
			})
			const key = `k"\<&`
			r.post(key, "x")
			if a := r.post(key, "x"); a.Header.Get("X-Mark") != "it is "+key || a.Header.Get("Idempotent-Replayed") != "true" {
				t.Errorf("a replay: %v", a.Header)
			}
			for i, a := range []answer{r.post(key, "y"), r.post("\x80\"", "y")} {
				if a.StatusCode != 400 || !json.Valid([]byte(a.body)) || !strings.Contains(a.body, has[shape][i]) || a.Header.Get("X-Mark") != "" {
					t.Errorf("%d %s, want %s", a.StatusCode, a.body, has[shape][i])
				}
				if isProblem := strings.HasPrefix(a.Header.Get("Content-Type"), "application/problem+json"); isProblem != (shape == "problem" || shape == "oasis") {
					t.Errorf("its type is %s", a.Header.Get("Content-Type"))
				}
			}
			r.outcome(proxy.Mismatch, 1)
			r.outcome(proxy.Refused, 1)
		})
	}
}

// Clients of AWS's query protocols read XML.
func TestErrorsOfForms(t *testing.T) {
	t.Parallel()
	r := newRig(t, backendtest.OK, func(c *proxy.Config) { c.Answers = proxy.Answers{Shape: "aws", Mismatch: 409} })
	const form = "Content-Type: application/x-www-form-urlencoded; charset=utf-8"
	r.post("k", "a=1", form)
	a := r.post("k", "a=2", form)
	var e struct {
		Code string `xml:"Errors>Error>Code"`
	}
	if err := xml.Unmarshal([]byte(a.body), &e); err != nil || a.StatusCode != 409 || e.Code != "IdempotentParameterMismatch" {
		t.Errorf("%d %s: %v, %+v", a.StatusCode, a.body, err, e)
	}
	if got := a.Header.Get("X-Amzn-ErrorType"); got != "IdempotentParameterMismatchException" {
		t.Errorf("%s", got)
	}
}

// The status of a key in progress is the route's, in the answer and in the report.
func TestStatusOfKeysInProgress(t *testing.T) {
	t.Parallel()
	entered, proceed := make(chan struct{}), make(chan struct{})
	statuses := make(chan int, 4)
	r := newRig(t, func(c backendtest.Conn, q *backendtest.Request) {
		entered <- struct{}{}
		<-proceed
		backendtest.OK(c, q)
	}, func(c *proxy.Config) {
		c.Answers.InProgress = 425
		c.Trace.Done = func(q *proxy.Report) { statuses <- q.Status }
	})
	done := make(chan answerOrError, 1)
	go func() {
		a, err := r.try("POST", "/pay", "k", "x")
		done <- answerOrError{a, err}
	}()
	<-entered
	r.isProblem(r.post("k", "x"), 425, "in-progress")
	if got := <-statuses; got != 425 {
		t.Errorf("reported as %d", got)
	}
	close(proceed)
	if a := <-done; a.err != nil || a.StatusCode != 200 {
		t.Errorf("%v", a)
	}
}
