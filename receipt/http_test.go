package receipt_test

import (
	"database/sql"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/receipt"
)

// payer writes an effect in the request's transaction, and answers with a number of its own.
func (b *bench) payer(status int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		attempt := r.Header.Get(receipt.HeaderAttempt)
		if _, err := receipt.Tx(r.Context()).ExecContext(r.Context(), "INSERT INTO effects (attempt) VALUES ('"+attempt+"')"); err != nil {
			b.t.Error(err)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(status)
		w.WriteHeader(http.StatusTeapot) // nobody's any more
		_, _ = fmt.Fprintf(w, `{"id":%q}`, attempt)
	})
}

// request is one at a handler under the middleware.
func (b *bench) request(db *sql.DB, key, attempt string, handler http.Handler) *httptest.ResponseRecorder {
	r := httptest.NewRequestWithContext(b.context(), http.MethodPost, "/pay", strings.NewReader("amount=5"))
	for name, value := range map[string]string{receipt.HeaderKey: key, receipt.HeaderAttempt: attempt} {
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	w := httptest.NewRecorder()
	b.Middleware(db, handler).ServeHTTP(w, r)
	return w
}

// handlers are of the middleware.
func handlers() map[string]func(*bench) {
	return map[string]func(*bench){
		"Statuses": statuses, "Panics": panics, "Refused": refused,
		"WroteFirst": wroteFirst, "KeyTooLong": keyTooLong, "RolledBackBeforeTheAnswer": rolledBackFirst,
	}
}

// What has the proxy free the key rolls back, or each retry would get the answer to the first
// request; and so does what says that the server failed. All else is kept.
func statuses(b *bench) {
	kept := 0
	var proxy *idem.Statuses // the default ones
	for status := 200; status < 600; status++ {
		again := status >= 500 || proxy.Of(status) != idem.Keep
		if status%20 > 4 && !again { // of the others, some
			continue
		}
		key := fmt.Sprint(status)
		first := b.request(b.db, key, "a"+key, b.payer(status))
		second := b.request(b.db, key, "b"+key, b.payer(status))
		if first.Code != status || second.Code != status || first.Header().Get("Content-Type") != "application/json" {
			b.t.Errorf("%d: answered %d and %d, %v", status, first.Code, second.Code, first.Header())
		}
		want := `{"id":"a` + key + `"}`
		if first.Body.String() != want {
			b.t.Errorf("%d: answered %q", status, first.Body)
		}
		if again {
			want = `{"id":"b` + key + `"}`
		} else {
			kept++
		}
		if second.Body.String() != want {
			b.t.Errorf("%d: answered %q, want %q", status, second.Body, want)
		}
	}
	b.rows(kept)
	b.effects(kept)
	if got := b.request(b.db, "", "", b.payer(http.StatusOK)); got.Code != http.StatusOK || got.Header().Get(receipt.HeaderOutcome) != "" {
		b.t.Errorf("without a key: %d %v", got.Code, got.Header()) // there is no receipt of it
	}
	b.rows(kept)
	b.effects(kept + 1)
}

func panics(b *bench) {
	func() {
		defer func() {
			if recover() == nil {
				b.t.Error("the panic was swallowed")
			}
		}()
		b.request(b.db, "k", "a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b.payer(http.StatusOK).ServeHTTP(w, r)
			panic("half way")
		}))
	}()
	b.rows(0)
	b.effects(0)
	if got := b.request(b.db, "k", "b", b.payer(http.StatusOK)); got.Body.String() != `{"id":"b"}` {
		b.t.Errorf("afterwards: %d %s", got.Code, got.Body)
	}
}

func refused(b *bench) {
	b.failed(receipt.ErrVoided)(b.void(of("k", "a")))
	got := b.request(b.db, "k", "a", b.payer(http.StatusOK))
	if got.Code != http.StatusConflict || got.Header().Get(receipt.HeaderOutcome) != receipt.OutcomeVoided {
		b.t.Errorf("%d %v", got.Code, got.Header())
	}
	b.effects(0)
}

// Who writes a body has said 200: a status that comes afterwards does not undo it.
func wroteFirst(b *bench) {
	got := b.request(b.db, "k", "a", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("begun, "))
		b.payer(http.StatusInternalServerError).ServeHTTP(w, r)
	}))
	if got.Code != http.StatusOK || got.Body.String() != `begun, {"id":"a"}` || got.Header().Get(receipt.HeaderOutcome) != receipt.OutcomeExecuted {
		b.t.Errorf("%d %v %q", got.Code, got.Header(), got.Body)
	}
	b.rows(1)
	b.effects(1)
}

// A key that does not fit is refused, and not cut to one that is another's.
func keyTooLong(b *bench) {
	got := b.request(b.db, strings.Repeat("k", 256), "a", b.payer(http.StatusOK))
	if got.Code != http.StatusBadRequest || got.Header().Get(receipt.HeaderOutcome) != "" {
		b.t.Errorf("%d %v", got.Code, got.Header())
	}
	b.rows(0)
	b.effects(0)
}

// onWrite is an answer that has something done before its client hears of it.
type onWrite struct {
	*httptest.ResponseRecorder

	first func()
}

func (w *onWrite) WriteHeader(status int) {
	w.first()
	w.ResponseRecorder.WriteHeader(status)
}

// Who hears "try again" can: by then nothing of the attempt is locked.
func rolledBackFirst(b *bench) {
	r := httptest.NewRequestWithContext(b.context(), http.MethodPost, "/pay", http.NoBody)
	r.Header.Set(receipt.HeaderKey, "k")
	r.Header.Set(receipt.HeaderAttempt, "a")
	var again *httptest.ResponseRecorder
	w := &onWrite{ResponseRecorder: httptest.NewRecorder(), first: func() {
		if n := b.db.Stats().InUse; n > 0 {
			b.t.Errorf("%d connections are still in a transaction", n)
			return // a retry would wait for it for ever
		}
		again = b.request(b.db, "k", "b", b.payer(http.StatusCreated))
	}}
	b.Middleware(b.db, b.payer(http.StatusServiceUnavailable)).ServeHTTP(w, r)
	if w.Code != http.StatusServiceUnavailable || again != nil && again.Code != http.StatusCreated {
		b.t.Errorf("%d, and then %v", w.Code, again)
	}
	b.effects(1)
}

// Tx is nil where nobody began one.
func TestTxElsewhere(t *testing.T) {
	t.Parallel()
	if receipt.Tx(t.Context()) != nil {
		t.Error("there is a transaction")
	}
}

// ask is one exchange with the endpoint, over a connection.
func ask(t *testing.T, url, method string, fields http.Header) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header = fields
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var body strings.Builder
	if err := resp.Write(&body); err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(body.String(), "\r\n\r\n")
	return resp, text
}

func named(key, attempt string, more ...string) http.Header {
	h := http.Header{}
	for name, value := range map[string]string{receipt.HeaderKey: key, receipt.HeaderAttempt: attempt} {
		if value != "" {
			h.Set(name, value)
		}
	}
	for i := 0; i < len(more); i += 2 {
		h.Set(more[i], more[i+1])
	}
	return h
}

func TestEndpoint(t *testing.T) {
	t.Parallel()
	b := newBench(t, receipt.SQLite, "sqlite", sqliteFile(t))
	mux := http.NewServeMux()
	mux.Handle("/open", b.Endpoint(b.db, ""))
	mux.Handle("/secret", b.Endpoint(b.db, "s3cret"))
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	b.answered("a")(b.do(of("done", "a")))
	b.answered("s")(b.do(receipt.Request{Key: "done", Scope: "alice", Attempt: "s"}))
	for name, c := range map[string]struct {
		path, method string
		fields       http.Header
		status       int
		outcome      string
		kept         string // whose response
	}{
		"executed":        {"/open", "PUT", named("done", "x"), 200, "executed", "a"},
		"executed, scope": {"/open", "PUT", named("done", "x", receipt.HeaderScope, "alice"), 200, "executed", "s"},
		"voided":          {"/open", "PUT", named("new", "v"), 204, "voided", ""},
		"found":           {"/open", "GET", named("done", ""), 200, "executed", "a"},
		"found, attempt":  {"/open", "GET", named("done", "y"), 200, "executed", "a"},
		"not found":       {"/open", "GET", named("newer", "w"), 404, "", ""},
		"no attempt":      {"/open", "PUT", named("done", ""), 400, "", ""},
		"no key":          {"/open", "PUT", named("", "a"), 400, "", ""},
		"no key, GET":     {"/open", "GET", named("", "a"), 400, "", ""},
		"too long":        {"/open", "PUT", named(strings.Repeat("k", 256), "a"), 400, "", ""},
		"POST":            {"/open", "POST", named("done", "a"), 405, "", ""},
		"HEAD":            {"/open", "HEAD", named("done", "a"), 405, "", ""},
		"secret":          {"/secret", "PUT", named("done", "x", "Authorization", "Bearer s3cret"), 200, "executed", "a"},
		"no secret":       {"/secret", "PUT", named("done", "x"), 401, "", ""},
		"another secret":  {"/secret", "PUT", named("done", "x", "Authorization", "Bearer s3cre"), 401, "", ""},
		"secret, no key":  {"/secret", "GET", http.Header{}, 401, "", ""},
		"secret as Basic": {"/secret", "PUT", named("done", "x", "Authorization", "Basic s3cret"), 401, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			resp, body := ask(t, s.URL+c.path, c.method, c.fields)
			if resp.StatusCode != c.status || resp.Header.Get(receipt.HeaderOutcome) != c.outcome {
				t.Fatalf("%d %v %s", resp.StatusCode, resp.Header, body)
			}
			if c.kept == "" {
				return
			}
			want := response(c.kept)
			if resp.Header.Get(receipt.HeaderStatus) != fmt.Sprint(want.Status) || body != string(want.Body) {
				t.Errorf("%v %q", resp.Header, body)
			}
			for field, values := range want.Header {
				if !reflect.DeepEqual(resp.Header.Values(field), values) {
					t.Errorf("%s is %q, want %q", field, resp.Header.Values(field), values)
				}
			}
		})
	}
	t.Cleanup(func() { b.rows(4) }) // two executions and two voids: what was refused has voided nothing
}

// Fields of a response that are also the endpoint's own, or about another message's
// length, do not spoil its answer.
func TestEndpointsOwnFields(t *testing.T) {
	t.Parallel()
	b := newBench(t, receipt.SQLite, "sqlite", sqliteFile(t))
	s := httptest.NewServer(b.Endpoint(b.db, ""))
	t.Cleanup(s.Close)
	tx := b.begin(nil)
	_, err := b.Do(b.context(), tx, of("k", "a"), func() (receipt.Response, error) {
		return receipt.Response{Status: http.StatusNotFound, Body: []byte("gone"), Header: http.Header{
			receipt.HeaderOutcome: {receipt.OutcomeUnknown}, receipt.HeaderStatus: {"200"}, "Content-Length": {"10"},
			"Transfer-Encoding": {"chunked"}, "Connection": {"close"}, "X-Kept": {"1"},
		}}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	resp, body := ask(t, s.URL, http.MethodPut, named("k", "a"))
	if resp.StatusCode != http.StatusOK || body != "gone" || resp.Header.Get("X-Kept") != "1" || resp.Close ||
		!reflect.DeepEqual(resp.Header.Values(receipt.HeaderOutcome), []string{receipt.OutcomeExecuted}) ||
		!reflect.DeepEqual(resp.Header.Values(receipt.HeaderStatus), []string{"404"}) {
		t.Errorf("%d %v %q", resp.StatusCode, resp.Header, body)
	}
}

// An endpoint whose database is away says that it does not know.
func TestEndpointWithoutDatabase(t *testing.T) {
	t.Parallel()
	b := newBench(t, receipt.SQLite, "sqlite", sqliteFile(t))
	s := httptest.NewServer(b.Endpoint(b.db, ""))
	t.Cleanup(s.Close)
	_ = b.db.Close()
	resp, body := ask(t, s.URL, http.MethodPut, named("k", "a"))
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get(receipt.HeaderOutcome) != receipt.OutcomeUnknown {
		t.Errorf("%d %v %s", resp.StatusCode, resp.Header, body)
	}
}
