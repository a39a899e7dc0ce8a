package admin

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/idemproxy/idemproxy/idem"
)

// response is what is to be stored, nil for a retry.
func (c *Change) response() (*idem.Response, error) {
	switch {
	case c.Action == "retry" && (c.Status != 0 || len(c.Header) > 0 || len(c.Body) > 0):
		return nil, errors.New("action retry frees the key: it takes no status, header or body")
	case c.Action == "retry":
		return nil, nil //nolint:nilnil // see Inspector.Resolve
	case c.Action != "complete":
		return nil, fmt.Errorf("action %q: want retry or complete", c.Action)
	case c.Status < 200 || c.Status > 599:
		return nil, fmt.Errorf("status %d: want 200 to 599", c.Status)
	case len(c.Body) > 0 && hasNoBody(c.Status):
		return nil, fmt.Errorf("a response with status %d has no body, but one is given: retries would not get it", c.Status)
	}
	r := &idem.Response{Status: c.Status, Body: c.Body}
	for _, f := range c.Header {
		if err := f.check(); err != nil {
			return nil, err
		}
		r.Header = append(r.Header, idem.Field{Name: []byte(f.Name), Value: []byte(f.Value)})
	}
	return r, nil
}

// hasNoBody says that a response with this status has none (RFC 9110 sections 15.3.5, 15.3.6, 15.4.5).
func hasNoBody(status int) bool {
	return status == http.StatusNoContent || status == http.StatusResetContent || status == http.StatusNotModified
}
