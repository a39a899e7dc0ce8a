package sim_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"time"
)

const (
	longestWait     = 60 * time.Second  // of a request for a key in progress
	longestPatience = 300 * time.Second // of a client
)

// request is a client's, from one connection of its own.
type request struct {
	name     string
	key      string
	payload  string
	process  *process
	question bool
	end      ending
	delay    time.Duration
	wait     time.Duration // what the client prefers; negative: nothing
	patience time.Duration
	tries    int
	sent     time.Time
	over     time.Time // answered, broken or given up; zero: not yet
	left     bool      // the client gave up
	status   int       // 0: none
	kind     string    // of a problem
	body     string
	named    *string // the key that the answer is about, if it says that
	mark     string  // of a replay
	replayed bool
	idle     time.Time // since when its key has been decided while it waits
	busy     time.Time // when the backend was last at work for the key meanwhile
	judged   bool
}

func (r *request) text() string {
	var b strings.Builder
	body, host, _ := strings.Cut(r.payload, " at ")
	if r.question {
		fmt.Fprintf(&b, "GET /.idemproxy/outcomes?key=%s%s HTTP/1.1\r\nHost: shop\r\n", r.key, oneIf(r.delay > 0, "&show=response"))
	} else {
		fmt.Fprintf(&b, "POST /pay HTTP/1.1\r\nHost: %s\r\nIdempotency-Key: %s\r\nContent-Length: %d\r\n", host, r.key, len(body))
		fmt.Fprintf(&b, "Sim-Request: %s\r\nSim-End: %d\r\nSim-Delay: %v\r\n", r.name, r.end, r.delay)
	}
	if r.wait >= 0 {
		fmt.Fprintf(&b, "Prefer: wait=%d\r\n", r.wait/time.Second)
	}
	b.WriteString("Authorization: Bearer a\r\nSim-Tenant: t\r\n\r\n")
	if !r.question {
		b.WriteString(body)
	}
	return b.String()
}

// send sends the request, and notes what becomes of it.
func (w *world) send(r *request) {
	r.sent = time.Now()
	w.mu.Lock()
	w.requests = append(w.requests, r)
	w.mu.Unlock()
	w.note("%s: %s", r.name, r.String())
	go func() {
		w.exchange(r)
		w.persist(r)
	}()
}

// persist has a client ask once more that was told to, or was told nothing, or that nothing was done.
func (w *world) persist(r *request) {
	again := *r
	again.name, again.tries = r.name+"x", r.tries-1
	again.over, again.left, again.status, again.kind, again.body, again.named, again.mark, again.replayed, again.idle, again.busy, again.judged = time.Time{}, false, 0, "", "", nil, "", false, time.Time{}, time.Time{}, false
	told := r.status == 0 || r.status == http.StatusServiceUnavailable || r.status == http.StatusConflict || r.kind == "store-unavailable"
	if again.tries <= 0 || !told {
		return
	}
	w.mu.Lock()
	w.persisting++
	w.mu.Unlock()
	time.Sleep(900 * time.Millisecond)
	w.mu.Lock()
	again.process = w.proxies[r.process.number] // it may have been replaced
	w.persisting--
	w.mu.Unlock()
	w.send(&again)
}

func (w *world) exchange(r *request) {
	c, err := w.net.dial(w.t.Context(), r.name, r.process.name)
	if err != nil {
		w.over(r, nil, "", err)
		return
	}
	defer func() { _ = c.Close() }()
	_ = c.SetReadDeadline(time.Now().Add(r.patience))
	_, _ = c.Write([]byte(r.text()))
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, &http.Request{Method: http.MethodPost})
	if err != nil {
		w.over(r, nil, "", err)
		return
	}
	body, err := io.ReadAll(resp.Body)
	w.over(r, resp, string(body), err)
}

// over notes what a client was told.
func (w *world) over(r *request, resp *http.Response, body string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r.over = time.Now()
	if err != nil {
		r.left = time.Since(r.sent) >= r.patience
		w.note("%s: has no answer: %v", r.name, err)
		return
	}
	r.status, r.body, r.replayed = resp.StatusCode, body, resp.Header.Get("Idempotent-Replayed") != ""
	r.mark = resp.Header.Get("Sim-Mark")
	var document struct {
		Type string
		Key  *string `json:"idempotency_key"`
	}
	if json.Unmarshal([]byte(body), &document) == nil {
		r.named = document.Key
		if document.Type != "" {
			r.kind = path.Base(strings.ReplaceAll(document.Type, "#", "/"))
		}
	}
	if r.kind != "" {
		w.note("%s: %d %s", r.name, r.status, r.kind)
	} else {
		w.note("%s: %d %q replayed=%v", r.name, r.status, body, r.replayed)
	}
}

func (r *request) String() string {
	if r.question {
		return fmt.Sprintf("asks %s what became of %s", r.process.name, r.key)
	}
	return fmt.Sprintf("%s to %s with %s (wait %v, patience %v); the backend %s after %v",
		r.key, r.process.name, r.payload, r.wait, r.patience, endings[r.end], r.delay)
}

func oneIf(yes bool, text string) string {
	if yes {
		return text
	}
	return ""
}
