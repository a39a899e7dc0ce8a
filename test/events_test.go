package test_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// events are the log's lines of one event.
func (p *process) events(name string) (all []map[string]any) {
	p.t.Helper()
	for line := range strings.Lines(p.text()) {
		var e map[string]any
		if json.Unmarshal([]byte(line), &e) == nil && e["event"] == name {
			all = append(all, e)
		}
	}
	return all
}

// says waits for an event of a request, and checks whose it says that it is.
func (p *process) says(event, path, id string) {
	p.t.Helper()
	eventually(p.t, event+" of "+id, func() bool {
		for _, e := range p.events(event) {
			if e["request_id"] == id && e["path"] == path && e["method"] == http.MethodPost && e["route"] == "cuts" && e["key"] != nil {
				return true
			}
		}
		return false
	})
}

// send posts with a key and a request id.
func (p *process) send(path, key, id string) {
	req, err := http.NewRequest(http.MethodPost, p.url+path, strings.NewReader("amount=5")) //nolint:noctx // a test
	if err != nil {
		p.t.Error(err)
		return
	}
	req.Header.Set("Idempotency-Key", key)
	req.Header.Set("X-Request-Id", id)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Error(err)
		return
	}
	_ = resp.Body.Close()
}

// What the log says of a key's fate it says of a request: one that was held or dropped at
// once, and one whose store took it when the request had long ended.
func TestEventsSayWhose(t *testing.T) {
	t.Parallel()
	redis, o := redistest.Start(t), newOrigin(t)
	file := t.TempDir() + "/idemproxy.yaml"
	writeText(t, file, "store: "+redis.URL()+"\nbackend: "+o.url()+"\nstore_timeout: 300ms\nbackend_timeout: 1s\n"+
		"routes: [{name: cuts, path: /*, on_ambiguous: hold}]\n")
	p := start(t, "-c", file)
	p.send("/cut", "held", "r-held")
	p.says("key_held", "/cut", "r-held")

	done := make(chan struct{})
	go func() { defer close(done); p.send("/slow?d=5s", "lost", "r-lost") }()
	o.started("lost")
	if code, out := p.operate("purge", "lost", "--yes"); code != 0 {
		t.Error(out)
	}
	<-done
	p.says("request", "/slow", "r-lost") // whose ending is lost

	done = make(chan struct{})
	go func() { defer close(done); p.send("/slow?d=1m", "late", "r-late") }()
	o.started("late")
	redis.Kill()
	<-done
	p.says("ending_deferred", "/slow", "r-late")
	redis.Restart()
	p.says("key_held", "/slow", "r-late")
	p.says("ending_recorded", "/slow", "r-late")
	if lost, back := p.events("store_lost"), p.events("store_back"); len(lost) != 1 {
		t.Errorf("store_lost: %v", lost)
	} else if len(back) > 1 {
		t.Errorf("store_back: %v", back)
	}
	eventually(t, "the store is back", func() bool { return len(p.events("store_back")) == 1 })
}
