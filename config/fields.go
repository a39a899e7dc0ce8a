package config

import (
	"fmt"
	"net/textproto"
	"slices"
	"strings"

	"github.com/idemproxy/idemproxy/message"
)

// namesOfFields says what is wrong with names of headers that requests are told apart
// by, or that carry their key. Those of a connection differ from try to try, since
// whoever is in front writes them.
func namesOfFields(names []string) (want string) {
	for _, name := range names {
		switch {
		case !isToken(name):
			return "names of headers"
		case slices.Contains([]string{"*", "all", "any", "none"}, name):
			return "names of headers, and [] for none of them"
		case message.IsHopByHop([]byte(name)), strings.EqualFold(name, "Content-Length"):
			return fmt.Sprintf("headers of the request, not of its connection as %s is", name)
		}
	}
	return ""
}

// meanOtherThings are standard headers that are the same for many operations, or that
// others on the way write.
//
//nolint:gochecknoglobals // a constant, of a kind that Go has no word for
var meanOtherThings = []string{
	"Accept", "Accept-Encoding", "Accept-Language", "Authorization", "Cache-Control", "Content-Encoding", "Content-Type", "Cookie",
	"Date", "Forwarded", "Host", "Idempotency-Attempt", "Max-Forwards", "Origin", "Prefer", "Range", "Referer", "Traceparent",
	"Tracestate", "User-Agent", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip",
}

func carriesKeys(r *Rules) (want string) { return fieldsOfKeys(r.KeyHeaders) }

// fieldsOfKeys says what is wrong with names of headers that carry keys.
func fieldsOfKeys(names []string) (want string) {
	if want := namesOfFields(names); want != "" {
		return want
	}
	for _, name := range names {
		if slices.Contains(meanOtherThings, textproto.CanonicalMIMEHeaderKey(name)) {
			return fmt.Sprintf("a header that has another value for each operation, such as Idempotency-Key; %s has another meaning",
				name)
		}
	}
	return ""
}

// notTheKey is for what tells callers or scopes apart: by its key each operation would be one
// of its own, and nobody known.
func notTheKey(names []string, r *Rules) (want string) {
	if want := namesOfFields(names); want != "" {
		return want
	}
	for _, name := range names {
		if slices.ContainsFunc(r.fieldsOfKey(), func(key string) bool { return strings.EqualFold(key, name) }) {
			return fmt.Sprintf("headers that say who asks; %s carries the key (key-headers)", name)
		}
	}
	return ""
}

func bindsCallers(r *Rules) (want string) { return notTheKey(r.Bind, r) }

func scopesByFields(r *Rules) (want string) { return notTheKey(headersOf(r.Scope), r) }

func comparesFields(r *Rules) (want string) { return namesOfFields(headersOf(r.Fingerprint)) }

// headersOf are the names of the items header:NAME of a list.
func headersOf(items []string) (names []string) {
	for _, item := range items {
		if name, ok := strings.CutPrefix(item, "header:"); ok {
			names = append(names, name)
		}
	}
	return names
}
