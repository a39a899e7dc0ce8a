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

// wishes are what a backend says of one response: see message.HeaderPolicy.
type wishes struct {
	noStore   bool
	retention time.Duration // 0: the route's
}

// overrule applies the backend's wishes to the execution. A derived key's response
// is kept for the route's short while, or not at all: the client did not ask for
// more. An error says what was ignored; the response is the same either way.
func overrule(held *attempts, h *fasthttp.ResponseHeader, derived bool) error {
	w, err := wishesOf(h, derived)
	if w.noStore {
		held.doNotStore()
	}
	if w.retention > 0 {
		held.retain(w.retention)
	}
	return err
}

func wishesOf(h *fasthttp.ResponseHeader, derived bool) (w wishes, err error) {
	var lines []string // one dictionary, on however many lines (RFC 9651 section 4.2)
	for name, value := range h.All() {
		if message.EqualFold(name, message.HeaderPolicy) && len(value) > 0 {
			lines = append(lines, string(value))
		}
	}
	if len(lines) == 0 {
		return w, nil
	}
	all, err := httpsfv.UnmarshalDictionary(lines)
	if err != nil {
		return w, fmt.Errorf("%w: it is no RFC 9651 dictionary: %w", errPolicy, err)
	}
	if m, ok := all.Get("no-store"); ok {
		item, isItem := m.(httpsfv.Item)
		if !isItem || item.Value != true {
			return w, fmt.Errorf("%w: no-store takes no value", errPolicy)
		}
		w.noStore = true
	}
	if m, ok := all.Get("retention"); ok {
		item, _ := m.(httpsfv.Item)
		seconds, isInt := item.Value.(int64)
		retention := time.Duration(seconds) * time.Second
		if !isInt || seconds < 1 || seconds > int64(maxRetention/time.Second) {
			return w, fmt.Errorf("%w: retention must be 1 to %.0f seconds", errPolicy, maxRetention.Seconds())
		}
		if !derived {
			w.retention = retention
		}
	}
	return w, nil
}
