package admin

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/idemproxy/idemproxy/idem"
)

// Keys is what the operator can do to keys. Nil: nothing.
type Keys struct {
	Store idem.Inspector
	// Release takes the lease of a key from the owner that was looked at, in one
	// atomic step: idem.ErrLeaseLost if the record has changed since. See
	// [idem.Engine.ReleaseFrom].
	Release func(ctx context.Context, k idem.Key, owner idem.Owner) error
	// Receipt says what the backend has of the attempt, nil where it keeps no receipts:
	// docs/receipts.md. It asks the backend.
	Receipt func(ctx context.Context, r *idem.Record) *Receipt
	// Recent has the last requests, for what a record does not say; nil: they are not kept.
	Recent *Recent
	// Audit is told of every change that was asked for, and what came of it.
	Audit func(remote, action string, k idem.Key, err error)
}

// Record is a key as the operator sees it. Times are by the store's clock.
type Record struct {
	Key string `json:"key"`
	// Scope is as calls take it: see [ScopeText].
	Scope   string `json:"scope,omitempty"`
	Digest  string `json:"digest"` // what logs call the key
	State   string `json:"state"`
	Attempt uint32 `json:"attempt"`
	// AgeMS is since the key's first request, ChangedMS since its last change,
	// ExpiresInMS until it is forgotten; without it, the key has no end: it is held
	// until it is resolved, or would be if its lease lapsed.
	AgeMS       int64 `json:"age_ms"`
	ChangedMS   int64 `json:"changed_ms"`
	ExpiresInMS int64 `json:"expires_in_ms,omitempty"`
	// ReplayMS is how long the response can still be replayed, when completed.
	// RetentionMS and RememberMS are what the key's request was promised: how long
	// its response is kept, and how long the key is known after that.
	ReplayMS    int64 `json:"replay_ms,omitempty"`
	RetentionMS int64 `json:"retention_ms"`
	RememberMS  int64 `json:"remember_ms"`
	// LeaseMS is what is left of the lease while the key is in progress. Owner is the
	// attempt that has it, or that is held.
	LeaseMS int64  `json:"lease_ms,omitempty"`
	Owner   string `json:"owner,omitempty"`
	// Resolved says of a completed key that its response did not come from the attempt: an
	// operator, the resolver, or a receipt that came after the client was answered, gave it.
	Resolved    bool   `json:"resolved,omitempty"`
	Fingerprint string `json:"fingerprint"`
	// Status, Header and BodyBytes are the response's, when completed. Body is
	// there if it was asked for.
	Status    int        `json:"status,omitempty"`
	Header    [][]string `json:"header,omitempty"` // names and values
	BodyBytes int        `json:"body_bytes,omitempty"`
	Body      []byte     `json:"body,omitempty"` // base64 in JSON
	// BodyOmitted says that the body was too large to keep: retries get 409.
	BodyOmitted bool `json:"body_omitted,omitempty"`
	// Receipt is what the backend has of it, unless it is completed or the backend keeps
	// no receipts.
	Receipt *Receipt `json:"receipt,omitempty"`
	// Mismatch is the last request with the key that differed, among those that the
	// process remembers.
	Mismatch *Event `json:"mismatch,omitempty"`
}

// Receipt is what a backend says of an attempt.
type Receipt struct {
	Says      string `json:"says"`
	Status    int    `json:"status,omitempty"`
	BodyBytes int    `json:"body_bytes,omitempty"`
}

// Change is the body of the calls that change a key.
type Change struct {
	Key   string `json:"key,omitempty"`
	Scope string `json:"scope,omitempty"`
	// Confirm must be true: that the caller knows what the call means.
	Confirm bool `json:"confirm"`
	// Owner is for /keys/release and /keys/resolve: the record's, as it was shown. If it is
	// another attempt by now, nothing is done. Empty: whichever it is.
	Owner string `json:"owner,omitempty"`
	// Action is for /keys/resolve: "retry": it was not executed, the key becomes
	// free; or "complete": it was, and retries get the response given here.
	Action string `json:"action,omitempty"`
	Status int    `json:"status,omitempty"`
	Header Fields `json:"header,omitempty"`
	Body   []byte `json:"body,omitempty"` // base64 in JSON
}

// Changed is what those calls answer.
type Changed struct {
	Done  string `json:"done"`
	Key   string `json:"key,omitempty"`
	Scope string `json:"scope,omitempty"`
	Keys  int    `json:"keys"` // how many there were
}

const (
	maxChange = 4 << 20
	// defaultListed and maxListed are how many keys are listed.
	defaultListed, maxListed = 100, 10_000
)

func (k *Keys) register(mux *http.ServeMux, protected func(http.HandlerFunc) http.HandlerFunc) {
	mux.HandleFunc("GET /keys", protected(k.get))
	mux.HandleFunc("GET /keys/list", protected(k.list))
	mux.HandleFunc("POST /keys/resolve", protected(k.change("resolve", k.resolve)))
	mux.HandleFunc("POST /keys/release", protected(k.change("release", k.release)))
	mux.HandleFunc("POST /keys/purge", protected(k.change("purge", k.purge)))
}

func parseKey(value, scope string) (idem.Key, error) {
	key, err := idem.ParseKey(value)
	if err != nil {
		return key, fmt.Errorf("key: %w", err)
	}
	return key.InScope(ScopeOf(scope)), nil
}

func (k *Keys) get(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	var key idem.Key
	var err error
	if q.Has("digest") {
		if key, err = k.digested(r.Context(), q.Get("digest")); err != nil {
			refuse(w, statusOf(err), err)
			return
		}
	} else if key, err = parseKey(q.Get("key"), q.Get("scope")); err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	record, err := k.Store.Get(r.Context(), key)
	if err != nil {
		refuse(w, statusOf(err), err)
		return
	}
	record.Key = key
	out := shown(&record)
	if record.Response != nil && q.Get("body") == "true" {
		out.Body = record.Response.Body
	}
	if record.Response == nil && k.Receipt != nil {
		out.Receipt = k.Receipt(r.Context(), &record)
	}
	out.Mismatch = k.Recent.mismatch(out.Digest)
	answer(w, http.StatusOK, out)
}

func shown(r *idem.Record) Record {
	out := Record{
		Key: r.Key.Value(), Scope: ScopeText(r.Key.Scope()), Digest: r.Key.String(), State: r.State.String(), Attempt: r.Attempt,
		AgeMS: r.ReadAt - r.Created, ChangedMS: r.ReadAt - r.Updated, RetentionMS: r.Retention, RememberMS: r.Remember,
		Fingerprint: fmt.Sprintf("%x", r.Fingerprint[:8]),
	}
	if r.Expires != 0 {
		out.ExpiresInMS = r.Expires - r.ReadAt
	}
	switch r.State {
	case idem.InProgress:
		out.LeaseMS, out.Owner = r.LeaseUntil-r.ReadAt, shownOwner(r.Owner)
	case idem.Completed:
		out.ReplayMS, out.Resolved = r.ReplayUntil-r.ReadAt, r.Owner == idem.Owner{}
	case idem.Unknown:
		out.Owner = shownOwner(r.Owner)
	case idem.Expired:
		out.Resolved = r.Owner == idem.Owner{}
	case idem.Absent, idem.Lapsed:
	}
	if r.Response != nil {
		out.Status, out.BodyBytes, out.BodyOmitted = r.Response.Status, len(r.Response.Body), r.Response.BodyOmitted
		if out.BodyOmitted {
			out.ReplayMS = 0
		}
		for _, f := range r.Response.Header {
			out.Header = append(out.Header, []string{string(f.Name), string(f.Value)})
		}
	}
	return out
}

// shownOwner is enough of a token to tell it from others, and too little to show
// it to a store.
func shownOwner(o idem.Owner) string { return hex.EncodeToString(o[:4]) }

// means says what a call will do, for who has not confirmed it.
func means(action string, asked *Change) string {
	switch {
	case action == "resolve" && asked.Action == "retry":
		return "the next request with this key will be executed, also if the first one was"
	case action == "resolve":
		return "retries with this key will get the response given here, also if nothing was executed"
	case action == "release":
		return "the next request with this key will be executed, also if the one under way goes on"
	case asked.Key == "":
		return "every key of this scope will be forgotten: retries with them will be executed again"
	}
	return "the key will be forgotten: the next request with it will be executed again"
}

// change reads what is asked for, and does it if that was confirmed.
func (k *Keys) change(
	action string, do func(ctx context.Context, remote string, key idem.Key, c *Change) (int, error),
) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		// A page in the operator's browser can post anything but this type unasked.
		if mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); mediaType != "application/json" {
			refuse(w, http.StatusUnsupportedMediaType, errors.New("want Content-Type: application/json"))
			return
		}
		asked, err := readChange(http.MaxBytesReader(w, r.Body, maxChange), action)
		if err != nil {
			refuse(w, http.StatusBadRequest, fmt.Errorf("the body: %w", err))
			return
		}
		var key idem.Key
		if asked.Key != "" || action != "purge" || asked.Scope == "" { // a scope can be purged whole
			if key, err = parseKey(asked.Key, asked.Scope); err != nil {
				refuse(w, http.StatusBadRequest, err)
				return
			}
		}
		if !asked.Confirm {
			refuse(w, http.StatusPreconditionRequired,
				fmt.Errorf("%s; say \"confirm\": true if that is what you want", means(action, &asked)))
			return
		}
		n, err := do(r.Context(), r.RemoteAddr, key, &asked)
		if err != nil {
			refuse(w, statusOf(err), err)
			return
		}
		answer(w, http.StatusOK, Changed{Done: action, Key: asked.Key, Scope: asked.Scope, Keys: n})
	}
}

// readChange reads one object, and nothing behind it. What the action cannot heed is refused: who
// gave it would take it for heeded.
func readChange(body io.Reader, action string) (c Change, err error) {
	d := json.NewDecoder(body)
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, err //nolint:wrapcheck // the caller says where
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return c, errors.New("want one JSON object, and nothing behind it")
	}
	switch {
	case action == "purge" && c.Owner != "":
		return c, errors.New("owner: purge takes none, it forgets the key whichever attempt has it; release and resolve take one")
	case action != "resolve" && (c.Action != "" || c.Status != 0 || len(c.Header) > 0 || len(c.Body) > 0):
		return c, fmt.Errorf("action, status, header and body are for resolve: %s takes none of them", action)
	}
	return c, nil
}

// errAsked is a change that cannot be made as it was asked for.
var errAsked = errors.New("asked for")

func (k *Keys) resolve(ctx context.Context, remote string, key idem.Key, c *Change) (int, error) {
	response, err := c.response()
	if err != nil {
		return 0, fmt.Errorf("%w: %w", errAsked, err)
	}
	owner, err := k.held(ctx, key, c.Owner)
	if err == nil {
		err = k.Store.Resolve(ctx, key, owner, response)
		if errors.Is(err, idem.ErrNotUnknown) {
			err = k.another(ctx, key, err)
		}
	}
	if errors.Is(err, idem.ErrLeaseLost) {
		err = errChanged
	}
	k.Audit(remote, c.Action, key, err)
	return 1, err
}

// held is the whole token of the attempt that is held and was shown as owner. If it is another
// one by now, that is errChanged: what is known of the one that was looked at says nothing of it.
func (k *Keys) held(ctx context.Context, key idem.Key, owner string) (idem.Owner, error) {
	if owner == "" {
		return idem.Owner{}, nil // whichever it is
	}
	record, err := k.Store.Get(ctx, key)
	switch {
	case errors.Is(err, idem.ErrNotFound):
		err = errNothingThere
	case err != nil:
	case record.State != idem.Unknown:
		err = inState(idem.ErrNotUnknown, record.State)
	case !strings.EqualFold(owner, shownOwner(record.Owner)):
		err = errChanged
	}
	return record.Owner, err
}

// release takes the lease from whoever has it: from the owner that was looked at
// and nobody else, so that what completes in between stays completed.
func (k *Keys) release(ctx context.Context, remote string, key idem.Key, c *Change) (int, error) {
	record, err := k.Store.Get(ctx, key)
	switch {
	case errors.Is(err, idem.ErrNotFound):
		err = errNothingThere
	case err != nil:
	case record.State != idem.InProgress:
		err = inState(errNotInProgress, record.State)
	case c.Owner != "" && !strings.EqualFold(c.Owner, shownOwner(record.Owner)):
		err = errChanged
	default:
		if err = k.Release(ctx, key, record.Owner); errors.Is(err, idem.ErrLeaseLost) {
			err = errChanged
		}
	}
	k.Audit(remote, "release", key, err)
	return 1, err
}

func (k *Keys) purge(ctx context.Context, remote string, key idem.Key, c *Change) (int, error) {
	if c.Key != "" {
		err := k.Store.Purge(ctx, key)
		if errors.Is(err, idem.ErrNotFound) {
			err = errNothingThere
		}
		k.Audit(remote, "purge", key, err)
		return 1, err
	}
	var all []idem.Key
	scope := ScopeOf(c.Scope)
	err := k.Store.List(ctx, func(r *idem.Record) bool {
		if r.Key.Scope() == scope {
			all = append(all, r.Key)
		}
		return true
	})
	var unread error
	if errors.Is(err, idem.ErrUnread) { // it is none of those that were listed
		unread, err = err, nil
	}
	n := 0
	for _, one := range all {
		if err != nil {
			break
		}
		if err = k.Store.Purge(ctx, one); errors.Is(err, idem.ErrNotFound) {
			err = nil // it ended by itself after it was listed
			continue
		}
		if err == nil {
			n++
		}
		k.Audit(remote, "purge", one, err)
	}
	if err == nil && unread != nil {
		err = fmt.Errorf("%d keys of this scope are forgotten; whether it has others is not known: %w", n, unread)
	}
	return n, err
}

func refuse(w http.ResponseWriter, status int, err error) {
	answer(w, status, map[string]any{"error": err.Error(), "status": status})
}
