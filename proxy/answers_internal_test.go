package proxy

import (
	"slices"
	"strings"
	"testing"
)

// SDKs decide by the words of an error whether they try again: each status has the word
// that its SDK knows, and the same word as ever.
func TestWordsThatSDKsGoBy(t *testing.T) {
	t.Parallel()
	shapes := map[string]func(*problem, string) []byte{
		"stripe": stripeError, "square": squareError, "paypal": payPalError, "google": googleError, "aws": awsError, "graphql": graphQLError,
	}
	for status, words := range map[int]map[string]string{
		400: {
			"stripe": `"type":"invalid_request_error"`, "square": `"category":"INVALID_REQUEST_ERROR","code":"BAD_REQUEST"`,
			"paypal": `"name":"BAD_REQUEST"`, "google": `"status":"INVALID_ARGUMENT","code":400`, "aws": `"__type":"ValidationException"`,
		},
		401: {"square": `"category":"AUTHENTICATION_ERROR","code":"UNAUTHORIZED"`, "google": `"status":"UNAUTHENTICATED","code":401`},
		409: {
			"square": `"code":"CONFLICT"`, "paypal": `"name":"CONFLICT"`, "google": `"status":"ABORTED","code":409`,
			"aws": `"__type":"ConflictException"`,
		},
		410: {"stripe": `"type":"invalid_request_error"`, "google": `"status":"UNKNOWN","code":410`, "aws": `"__type":"ValidationException"`},
		429: {
			"stripe": `"code":"rate_limit"`, "square": `"category":"RATE_LIMIT_ERROR","code":"RATE_LIMITED"`,
			"google": `"status":"RESOURCE_EXHAUSTED","code":429`, "aws": `"__type":"ThrottlingException"`,
		},
		500: {
			"stripe": `"type":"api_error"`, "square": `"category":"API_ERROR","code":"INTERNAL_SERVER_ERROR"`,
			"google": `"status":"INTERNAL","code":500`, "aws": `"__type":"InternalServerException"`,
		},
		502: {"stripe": `"type":"api_error"`, "square": `"code":"BAD_GATEWAY"`, "google": `"status":"UNKNOWN","code":502`, "aws": `"__type":"InternalServerException"`},
		503: {
			"stripe": `"type":"api_error"`, "square": `"code":"SERVICE_UNAVAILABLE"`, "google": `"status":"UNAVAILABLE","code":503`,
			"aws": `"__type":"ServiceUnavailableException"`,
		},
		504: {"google": `"status":"DEADLINE_EXCEEDED","code":504`, "aws": `"__type":"InternalServerException"`},
	} {
		for shape, want := range words {
			p := &problem{name: "some-thing", title: "Some thing", status: status}
			if got := string(shapes[shape](p, "text")); !strings.Contains(got, want) {
				t.Errorf("%d as %s: %s, want %s", status, shape, got, want)
			}
		}
	}
	for _, retryable := range []bool{true, false} {
		name, value := stripeRetry(&problem{retryable: retryable})
		if name != "Stripe-Should-Retry" || (value == "true") != retryable {
			t.Errorf("%s: %s, retryable %v", name, value, retryable)
		}
	}
	if got := Shapes(); !slices.IsSorted(got) || !slices.Contains(got, ShapeProblem) {
		t.Errorf("the documents list the shapes as %q", got)
	}
}
