package sim_test

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/idemproxy/idemproxy/idem"
)

// backendTimeout is for how long a proxy waits for the backend.
const backendTimeout = 40 * time.Second

// execution is a request that reached the backend, which executed it at once.
type execution struct {
	number   int
	key      string
	payload  string
	request  string // of the client
	attempt  string // its token
	try      string // the number of the attempt
	process  string
	end      ending
	began    time.Time
	ended    time.Time // zero: not yet
	voided   bool
	answered bool // whole
	missed   bool // that it is not in the store has been said
}

// ending is what the backend does with a request, besides executing it.
type ending uint8

const (
	answers ending = iota
	cuts           // breaks off before its answer
	halves         // breaks off in its answer
	isBusy         // 503, nothing was done
	isSilent
	pieces // answers in pieces, of unknown length
)

var endings = [...]string{"answers", "cuts", "halves", "is busy", "is silent", "answers in pieces"}

// backend takes connections until the listener is closed.
func (w *world) backend(l *listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go w.serve(c.(*conn))
	}
}

// serve answers the requests of one connection.
func (w *world) serve(c *conn) {
	defer func() { _ = c.Close() }()
	in := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if e := w.arrives(r, string(body), c.remote); !w.answer(c, e, r) {
			return
		}
	}
}

// answer does what the client's request says that the backend does.
func (w *world) answer(c *conn, e *execution, r *http.Request) (keep bool) {
	delay, _ := time.ParseDuration(r.Header.Get("Sim-Delay"))
	time.Sleep(delay)
	defer w.ends(e)
	text := e.text()
	switch {
	case e.voided:
		_, err := fmt.Fprint(c, "HTTP/1.1 409 Conflict\r\nContent-Length: 6\r\n\r\nvoided")
		return err == nil
	case e.end == cuts:
		return false
	case e.end == halves:
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text)+10, text)
		return false
	case e.end == isBusy:
		_, err := fmt.Fprint(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy")
		return err == nil
	case e.end == isSilent:
		_, _ = io.Copy(io.Discard, c) // until the proxy has had enough
		return false
	case e.end == pieces:
		return w.inPieces(c, e, text)
	}
	_, err := fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
	w.saysAll(e, err)
	return err == nil
}

func (w *world) inPieces(c *conn, e *execution, text string) bool {
	_, err := fmt.Fprint(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n")
	for i := 0; i < len(text) && err == nil; i += 8 {
		piece := text[i:min(i+8, len(text))]
		_, err = fmt.Fprintf(c, "%x\r\n%s\r\n", len(piece), piece)
		time.Sleep(700 * time.Millisecond)
	}
	if err == nil {
		_, err = fmt.Fprint(c, "0\r\n\r\n")
	}
	w.saysAll(e, err)
	return err == nil
}

func (e *execution) text() string {
	return fmt.Sprintf("execution %d of %s with %s", e.number, e.key, e.payload)
}

// receipts are what the backend says of attempts that are in doubt.
type receipts struct {
	w *world
}

var errReceipts = errors.New("so it was planned")

// URL implements proxy.Receipts.
func (r receipts) URL() string { return "http://receipts/" }

// Find implements proxy.Receipts.
func (r receipts) Find(ctx context.Context, key idem.Key, attempt idem.Owner) (*idem.Response, error) {
	return r.look(ctx, key, attempt, false)
}

// Void implements proxy.Receipts.
func (r receipts) Void(ctx context.Context, key idem.Key, attempt idem.Owner) (*idem.Response, error) {
	return r.look(ctx, key, attempt, true)
}

func (r receipts) look(ctx context.Context, key idem.Key, attempt idem.Owner, void bool) (*idem.Response, error) {
	w := r.w
	response, err := r.find(key, attempt, void)
	w.mu.Lock()
	slow := []time.Duration{50 * time.Millisecond, time.Millisecond, 3 * time.Second, 14 * time.Second}[w.asked%4]
	w.settling[key.Value()]++
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.settling[key.Value()]--
	}()
	select {
	case <-time.After(slow): // the answer is on its way
		return response, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (r receipts) find(key idem.Key, attempt idem.Owner, void bool) (*idem.Response, error) {
	w := r.w
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	if w.mute {
		return nil, errReceipts
	}
	token := hex.EncodeToString(attempt[:])
	for _, e := range w.executions {
		if e.attempt == token && !e.voided {
			return &idem.Response{Status: 200, Body: []byte(e.text())}, nil
		}
	}
	if void {
		w.voids[token] = true
		w.note("the attempt of %s is voided", key.Value())
	}
	return nil, nil //nolint:nilnil // there is none
}
