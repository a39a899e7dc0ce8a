package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// value is a setting's, as a flag takes it.
type value struct{ setting, value string }

// presets are what a route needs for the clients of an API: docs/presets.md says from
// which documents. A preset is no more than these values, each of which a route may set
// otherwise.
func presets() map[string][]value {
	return map[string][]value{
		"stripe": {
			{"key-headers", "Idempotency-Key"},
			{"key-methods", "POST"},
			{"retention", "24h"},
			{"remember", "0s"},
			{"release-statuses", "401,407,408,409,421,425,429,503,511"},
			{"errors-as", "stripe"},
			{"mismatch-status", "400"},
		},
		"square": {{"key", "json:/idempotency_key"}, {"errors-as", "square"}, {"mismatch-status", "400"}},
		"adyen": {
			{"key-headers", "Idempotency-Key"},
			{"key-methods", "POST"},
			{"key-format", ".{1,64}"},
			{"retention", "744h"},
			{"bind", "Authorization,X-API-Key"},
			{"replay-marker", "Idempotency-Key: {key}"},
		},
		"paypal": {{"key-headers", "PayPal-Request-Id"}, {"key-methods", "POST"}, {"errors-as", "paypal"}},
		"shopify": {
			{"key", "graphql:idempotent.key"}, {"key-methods", "POST"}, {"bind", "X-Shopify-Access-Token"}, {"errors-as", "graphql"},
		},
		"google-aip-155": {
			{"key", "query:requestId,query:request_id,json:/requestId,json:/request_id"},
			{"errors-as", "google"},
			{"mismatch-status", "400"},
		},
		"aws-client-token": {
			{"key", "json:/ClientToken,json:/clientToken,json:/ClientRequestToken,json:/clientRequestToken,form:ClientToken"},
			{"bind", ""},
			{"errors-as", "aws"},
			{"mismatch-status", "400"},
		},
		"oasis-repeatable-requests": {
			{"key-headers", "Repeatability-Request-ID"},
			{"errors-as", "oasis"},
			{"mismatch-status", "400"},
			{"replay-marker", "Repeatability-Result: accepted"},
		},
		"open-banking": {
			{"key-headers", "X-Idempotency-Key"}, {"key-methods", "POST"}, {"key-format", ".{1,40}"}, {"retention", "24h"},
		},
		"standard-webhooks": {
			{"key-headers", "Webhook-Id"}, {"key-methods", "POST"}, {"release-statuses", "3xx,4xx,5xx"}, {"retention", "120h"},
		},
	}
}

func presetNames() (names []string) {
	for name := range presets() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// applyPreset sets what a preset has and nobody has set.
func applyPreset(flags *pflag.FlagSet, name string, origin Origin) error {
	for _, v := range presets()[name] {
		if _, set := origin[v.setting]; set {
			continue
		}
		if err := setWhole(flags.Lookup(v.setting), v.value); err != nil {
			return fmt.Errorf("preset %s: %s: %w", name, v.setting, err)
		}
	}
	return nil
}

// marker splits a field of replays into its name and its value.
func marker(text string) (name, value string, err error) {
	if text == "" {
		return "", "", nil
	}
	name, value, found := strings.Cut(text, ": ")
	if !found || !isToken(name) || value == "" || strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c > '~' }) {
		return "", "", errors.New("a header, such as X-Replayed: yes")
	}
	return name, value, nil
}
