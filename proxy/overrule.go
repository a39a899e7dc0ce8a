package proxy

import (
	"errors"
	"fmt"
	"time"

	"github.com/dunglas/httpsfv"
	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/message"
)

const maxRetention = 8760 * time.Hour

var errPolicy = errors.New("the backend's Idempotency-Policy was ignored")

// keeper is what a backend's wishes are about.
type keeper interface {
	retain(d time.Duration)
	doNotStore()
}

// overrule applies the backend's wishes to the execution. A derived key's response
// is kept for the route's short while, or not at all: the client did not ask for
// more. An error says what was ignored; the response is the same either way.
func overrule(held keeper, h *fasthttp.ResponseHeader, derived bool) error {
	value := message.ResponseValue(h, message.HeaderPolicy)
	if len(value) == 0 {
		return nil
	}
	wishes, err := httpsfv.UnmarshalDictionary([]string{string(value)})
	if err != nil {
		return fmt.Errorf("%w: it is no RFC 9651 dictionary: %w", errPolicy, err)
	}
	if m, ok := wishes.Get("no-store"); ok {
		item, isItem := m.(httpsfv.Item)
		if !isItem || item.Value != true {
			return fmt.Errorf("%w: no-store takes no value", errPolicy)
		}
		held.doNotStore()
	}
	if m, ok := wishes.Get("retention"); ok {
		item, _ := m.(httpsfv.Item)
		seconds, isInt := item.Value.(int64)
		retention := time.Duration(seconds) * time.Second
		if !isInt || seconds < 1 || seconds > int64(maxRetention/time.Second) {
			return fmt.Errorf("%w: retention must be 1 to %.0f seconds", errPolicy, maxRetention.Seconds())
		}
		if !derived {
			held.retain(retention)
		}
	}
	return nil
}
