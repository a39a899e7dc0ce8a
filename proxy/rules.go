package proxy

import (
	"github.com/idemproxy/idemproxy/idem"
)

// Rules are how the requests of one route are treated. Whoever makes them does
// not change them once a server has them.
type Rules struct {
	// Policy is how keys are treated.
	Policy idem.Policy
	// MaxRequestBody is the largest body of a keyed request, which must be read
	// whole to be fingerprinted. Larger ones get 413. Default 1 MiB.
	MaxRequestBody int
	// MaxResponseBody is the largest body that is kept for replays. Larger
	// responses are passed on; their key is completed without a body. Default
	// 1 MiB.
	MaxResponseBody int
	// RequireKey answers 400 to requests without a key.
	RequireKey bool
	// BindHeaders are the headers that say who asks (Authorization, say): the
	// same key with other values is a mismatch.
	BindHeaders []string
	// ScopeHeader, if set, partitions the keys by that header's value.
	ScopeHeader string
	// NotReplayed are response headers that are not kept for replays.
	NotReplayed []string
}

func (r *Rules) setDefaults() {
	if r.MaxRequestBody <= 0 {
		r.MaxRequestBody = 1 << 20
	}
	if r.MaxResponseBody <= 0 {
		r.MaxResponseBody = 1 << 20
	}
}
