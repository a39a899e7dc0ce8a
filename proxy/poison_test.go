package proxy_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/idemproxy/idemproxy/caller"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// A response that somebody had made by lying in Host or X-Forwarded-Host is kept
// for the key and the caller that it was made for, and for nobody else; without
// a key nothing is kept at all.
func TestP3NoPoisoning(t *testing.T) {
	t.Parallel()
	respond := func(c backendtest.Conn, q *backendtest.Request) {
		c.Answer(http.StatusOK, "go to "+q.Host+" or "+q.Header.Get("X-Forwarded-Host"))
	}
	r := newRig(t, respond)
	lie := []string{"Host: evil.example", "X-Forwarded-Host: evil.example"}
	r.post("", "x", lie...)
	honest := r.post("", "x", "Host: good.example")
	if honest.body != "go to good.example or good.example" {
		t.Errorf("without a key: %s", honest.body)
	}
	r.post("k", "x", append(lie, "Authorization: attacker")...)
	for _, caller := range []string{"Authorization: victim", ""} {
		header := []string{"Host: good.example"}
		if caller != "" {
			header = append(header, caller)
		}
		r.isProblem(r.post("k", "x", header...), 422, "key-of-another-caller")
	}
	r.executions("k", 1)
	if a := r.post("mine", "x", "Host: good.example", "Authorization: victim"); a.body != honest.body {
		t.Errorf("another key: %s", a.body)
	}

	// Where one proxy serves several names, each can have keys of its own.
	scope, err := caller.ParseScope([]string{"host"})
	if err != nil {
		t.Fatal(err)
	}
	hosts := newRig(t, respond, func(c *proxy.Config) { c.Scope = scope })
	for _, host := range []string{"a.example", "b.example"} {
		if a := hosts.post("k", "x", "Host: "+host); a.body != "go to "+host+" or "+host {
			t.Errorf("%s: %s", host, a.body)
		}
	}
	hosts.executions("k", 2)
}

// Who sends any number of keys cannot make the proxy hold any number of records:
// refused requests leave nothing behind.
func TestRefusedLeaveNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, backendtest.OK, func(c *proxy.Config) { c.MaxRequestBody = 10 })
	key := func(name string) idem.Key {
		k, err := idem.ParseKey(name)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	r.post("too-large", "more than ten bytes")
	if _, err := r.store.Get(t.Context(), key("too-large")); !errors.Is(err, idem.ErrNotFound) {
		t.Error(err)
	}
}
