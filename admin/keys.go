package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// Keys is what the operator can do to keys. Nil: nothing.
type Keys struct {
	Store idem.Inspector
	// Retention is how long a response that the operator gives is kept.
	Retention time.Duration
	// Audit is told of every change that was asked for, and what came of it.
	Audit func(remote, action string, k idem.Key, err error)
}

// Record is a key as /keys shows it.
type Record struct {
	Key     string `json:"key"`
	Scope   string `json:"scope,omitempty"`
	State   string `json:"state"`
	Attempt uint32 `json:"attempt"`
	// Times are on the store's clock, in milliseconds; for Redis that is Unix
	// time.
	CreatedMS int64 `json:"created_ms"`
	UpdatedMS int64 `json:"updated_ms"`
	ExpiresMS int64 `json:"expires_ms"`
	// LeaseUntilMS is there while the key is in progress.
	LeaseUntilMS int64  `json:"lease_until_ms,omitempty"`
	Owner        string `json:"owner,omitempty"`
	Fingerprint  string `json:"fingerprint"`
	// Status and BodyBytes are the response's, when completed; its body is not
	// shown.
	Status    int `json:"status,omitempty"`
	BodyBytes int `json:"body_bytes,omitempty"`
}

// Resolution is the body of POST /keys/resolve.
type Resolution struct {
	Key   string `json:"key"`
	Scope string `json:"scope,omitempty"`
	// Action is "retry": it was not executed, the key becomes free; or
	// "complete": it was, and retries get the response given here.
	Action string            `json:"action"`
	Status int               `json:"status,omitempty"`
	Header map[string]string `json:"header,omitempty"`
	Body   []byte            `json:"body,omitempty"` // base64 in JSON
}

const maxResolution = 4 << 20

func (k *Keys) register(mux *http.ServeMux, protected func(http.HandlerFunc) http.HandlerFunc) {
	mux.HandleFunc("GET /keys", protected(k.get))
	mux.HandleFunc("POST /keys/resolve", protected(k.resolve))
}

func parseKey(value, scope string) (idem.Key, error) {
	key, err := idem.ParseKey(value)
	if err != nil {
		return key, fmt.Errorf("key: %w", err)
	}
	return key.InScope(scope), nil
}

func (k *Keys) get(w http.ResponseWriter, r *http.Request) {
	key, err := parseKey(r.URL.Query().Get("key"), r.URL.Query().Get("scope"))
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	record, err := k.Store.Get(r.Context(), key)
	if err != nil {
		refuse(w, statusOf(err), err)
		return
	}
	answer(w, http.StatusOK, shown(key, &record))
}

func shown(key idem.Key, r *idem.Record) Record {
	out := Record{
		Key: key.Value(), Scope: key.Scope(), State: r.State.String(), Attempt: r.Attempt,
		CreatedMS: r.Created, UpdatedMS: r.Updated, ExpiresMS: r.Expires, Fingerprint: fmt.Sprintf("%x", r.Fingerprint[:8]),
	}
	if r.State == idem.InProgress {
		out.LeaseUntilMS, out.Owner = r.LeaseUntil, fmt.Sprintf("%x", r.Owner[:4])
	}
	if r.Response != nil {
		out.Status, out.BodyBytes = r.Response.Status, len(r.Response.Body)
	}
	return out
}

func (k *Keys) resolve(w http.ResponseWriter, r *http.Request) {
	// A page in the operator's browser can post anything but this type unasked.
	if mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); mediaType != "application/json" {
		refuse(w, http.StatusUnsupportedMediaType, errors.New("want Content-Type: application/json"))
		return
	}
	var asked Resolution
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxResolution))
	d.DisallowUnknownFields()
	if err := d.Decode(&asked); err != nil {
		refuse(w, http.StatusBadRequest, fmt.Errorf("the body: %w", err))
		return
	}
	key, err := parseKey(asked.Key, asked.Scope)
	var response *idem.Response
	if err == nil {
		response, err = asked.response()
	}
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	err = k.Store.Resolve(r.Context(), key, k.Retention, response)
	k.Audit(r.RemoteAddr, asked.Action, key, err)
	if err != nil {
		refuse(w, statusOf(err), err)
		return
	}
	answer(w, http.StatusOK, map[string]string{"key": asked.Key, "resolved": asked.Action})
}

// response is what is to be stored, nil for a retry.
func (a *Resolution) response() (*idem.Response, error) {
	switch {
	case a.Action == "retry" && (a.Status != 0 || len(a.Header) > 0 || len(a.Body) > 0):
		return nil, errors.New("action retry frees the key: it takes no status, header or body")
	case a.Action == "retry":
		return nil, nil //nolint:nilnil // see Inspector.Resolve
	case a.Action != "complete":
		return nil, fmt.Errorf("action %q: want retry or complete", a.Action)
	case a.Status < 200 || a.Status > 599:
		return nil, fmt.Errorf("status %d: want 200 to 599", a.Status)
	}
	r := &idem.Response{Status: a.Status, Body: a.Body}
	for name, value := range a.Header {
		if !isField(name, value) {
			return nil, fmt.Errorf("header %q: want a token, and a value without control characters", name)
		}
		r.Header = append(r.Header, idem.Field{Name: []byte(name), Value: []byte(value)})
	}
	return r, nil
}

// isField: what cannot break a response's framing.
func isField(name, value string) bool {
	for i := range len(name) {
		c := name[i]
		if c != '-' && c != '_' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	for i := range len(value) {
		if value[i] < 0x20 && value[i] != '\t' || value[i] == 0x7f {
			return false
		}
	}
	return name != "" && http.CanonicalHeaderKey(name) != "Content-Length" && http.CanonicalHeaderKey(name) != "Transfer-Encoding"
}

func statusOf(err error) int {
	switch {
	case errors.Is(err, idem.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, idem.ErrNotUnknown):
		return http.StatusConflict
	}
	return http.StatusServiceUnavailable
}

func refuse(w http.ResponseWriter, status int, err error) {
	answer(w, status, map[string]any{"error": err.Error(), "status": status})
}
