package proxy

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/message"
	"github.com/idemproxy/idemproxy/operation"
)

// Receipts is the backend's endpoint that voids attempts: docs/receipts.md has the
// protocol.
type Receipts interface {
	// URL names the endpoint: records that were made for another one are not settled by
	// this one.
	URL() string
	// Void asks the backend to void the attempt at the key unless the operation was
	// executed. It returns the response if it was, and nil if the attempt is voided: it
	// has no effect then, and never will. After an error, either may be, and it is asked
	// again.
	Void(ctx context.Context, key idem.Key, attempt idem.Owner) (*idem.Response, error)
	// Find only looks: the response if the operation was executed, nil if it was not so
	// far.
	Find(ctx context.Context, key idem.Key, attempt idem.Owner) (*idem.Response, error)
}

// errNoWord is an answer of the endpoint that says neither.
var errNoWord = errors.New("the receipts' endpoint did not say what became of the attempt")

// HTTPReceipts asks a URL by PUT. The attempt is named as requests to the backend name
// it, by Idempotency-Key, Idempotency-Scope and Idempotency-Attempt-Token. The answer
// says in Idempotency-Outcome whether the operation was executed, and then is its
// response, or the attempt voided. What does not say is no answer.
type HTTPReceipts struct {
	asker
	secret string // empty for none
}

// NewHTTPReceipts checks the URL, and reads the secret that is shown to it from a file
// unless that is empty. timeout bounds one exchange. Answers of more than most bytes
// are errors.
func NewHTTPReceipts(rawURL, secretFile string, timeout time.Duration, most int) (*HTTPReceipts, error) {
	a, err := newAsker(rawURL, timeout, most)
	if err != nil {
		return nil, err
	}
	r := &HTTPReceipts{asker: *a}
	if secretFile != "" {
		text, err := os.ReadFile(secretFile) //nolint:gosec // the operator's own file
		if err != nil {
			return nil, fmt.Errorf("reading the secret of the receipts: %w", err)
		}
		if r.secret = strings.TrimSpace(string(text)); r.secret == "" {
			return nil, fmt.Errorf("the secret of the receipts: %s is empty", secretFile)
		}
	}
	return r, nil
}

// URL implements Receipts.
func (h *HTTPReceipts) URL() string { return h.url }

// Void implements Receipts.
func (h *HTTPReceipts) Void(ctx context.Context, key idem.Key, attempt idem.Owner) (*idem.Response, error) {
	return h.about(ctx, fasthttp.MethodPut, key, attempt, func(status int, outcome string) bool {
		return outcome == outcomeVoided && status/100 == 2
	})
}

// Find implements Receipts.
func (h *HTTPReceipts) Find(ctx context.Context, key idem.Key, attempt idem.Owner) (*idem.Response, error) {
	return h.about(ctx, fasthttp.MethodGet, key, attempt, func(status int, _ string) bool {
		return status == fasthttp.StatusNotFound
	})
}

// about asks about an attempt. none says of an answer that the operation was not
// executed.
func (h *HTTPReceipts) about(
	ctx context.Context, method string, key idem.Key, attempt idem.Owner, none func(status int, outcome string) bool,
) (response *idem.Response, err error) {
	scope := scopeField(key)
	if !isFieldText(scope) {
		return nil, errScopeField
	}
	fill := func(req *fasthttp.Request) {
		req.Header.SetMethod(method)
		req.Header.Set(operation.HeaderKey, operation.KeyField(key))
		req.Header.Set(message.HeaderToken, hex.EncodeToString(attempt[:]))
		if scope != "" {
			req.Header.Set(message.HeaderScope, scope)
		}
		if h.secret != "" {
			req.Header.Set("Authorization", "Bearer "+h.secret)
		}
	}
	err = h.ask(ctx, fill, func(resp *fasthttp.Response) error {
		outcome, unclear := saidOutcome(&resp.Header)
		switch {
		case outcome == outcomeExecuted && resp.StatusCode() == fasthttp.StatusOK:
			response, err = resolved(resp)
			return err
		case none(resp.StatusCode(), outcome):
			return nil
		}
		if unclear != nil {
			return fmt.Errorf("%w: it answered %s with %d, and %w", errNoWord, method, resp.StatusCode(), unclear)
		}
		return fmt.Errorf("%w: it answered %s with %d%s", errNoWord, method, resp.StatusCode(), hint(resp.StatusCode()))
	})
	return response, err
}

// hint says which setting an answer of the endpoint may come from.
func hint(status int) string {
	switch status {
	case fasthttp.StatusUnauthorized, fasthttp.StatusForbidden:
		return " (does receipts_secret_file have the backend's secret?)"
	case fasthttp.StatusNotFound, fasthttp.StatusMethodNotAllowed, fasthttp.StatusNotImplemented:
		return " (is receipts the URL of its endpoint, and does that take this method?)"
	case fasthttp.StatusOK, fasthttp.StatusNoContent:
		return " (but without Idempotency-Outcome, or with another one)"
	}
	return ""
}

// What a response can say of an attempt that nobody can go by.
var (
	// errOutcomes is a response that says two things.
	errOutcomes = errors.New("Idempotency-Outcome says different things: none is believed")
	// errOutcome is a response that says what is no word of the protocol.
	errOutcome = errors.New("want executed, voided or unknown")
)

// saidOutcome is what a response says of an attempt; empty if it says nothing. Of what
// says different things, on several lines or in a list on one (RFC 9110 section 5.3),
// nothing can be believed: that is unknown, and an error. A word that is none of the
// protocol's is an error, too.
func saidOutcome(h *fasthttp.ResponseHeader) (outcome string, err error) {
	for name, value := range h.All() {
		if !message.EqualFold(name, message.HeaderOutcome) {
			continue
		}
		for word := range bytes.SplitSeq(value, []byte(",")) {
			switch said := outcomeOf(bytes.Trim(word, " \t")); {
			case said == "", said == outcome:
			case outcome == "":
				outcome = said
			default:
				return outcomeUnknown, errOutcomes
			}
		}
	}
	if outcome != "" && !slices.Contains(outcomeWords(), outcome) {
		err = fmt.Errorf("Idempotency-Outcome is %.40q: %w", outcome, errOutcome)
	}
	return outcome, err
}

// outcomeOf is a word of the field. Its letters count without regard to case, as people
// expect of a field whose values are words: a backend that writes Voided must not have its
// answer kept for the operation's.
func outcomeOf(word []byte) string {
	for _, known := range outcomeWords() {
		if message.EqualFold(word, known) {
			return known
		}
	}
	return string(word)
}

// The values of message.HeaderOutcome.
const outcomeExecuted, outcomeVoided, outcomeUnknown = "executed", "voided", "unknown"

func outcomeWords() []string { return []string{outcomeExecuted, outcomeVoided, outcomeUnknown} }
