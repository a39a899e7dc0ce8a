package rstore

import (
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// What is fetched is the response of the record that was compared: one that has taken its
// place meanwhile has another one, which was never compared with the request.
func TestP3WhatIsFetchedBelongsToWhatWasCompared(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s, err := New(Config{URL: server.URL()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	l, err := s.conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	name, response := s.names(id{1})
	compared := &idem.Record{State: idem.Completed, Response: &idem.Response{Status: 200, Body: []byte("stale")}}
	compared.Owner = idem.NewOwner()
	head := string(compared.AppendHead(nil))
	compared.Owner = idem.NewOwner()
	other := string(compared.AppendHead(nil))
	server.Do("SET", "head", head)
	for _, c := range []struct {
		what, record, response string
		fetched                bool
	}{
		{"both are there", head + "names", string(idem.AppendResponse(nil, compared.Response)), true},
		{"another attempt's", other + "names", string(idem.AppendResponse(nil, compared.Response)), false},
		{"the record has gone", "", string(idem.AppendResponse(nil, compared.Response)), false},
		{"the response has gone", head + "names", "", false},
		{"it cannot be read", head + "names", strings.Repeat("?", 4096), false},
	} {
		server.Do("DEL", name, response)
		for key, value := range map[string]string{name: c.record, response: c.response} {
			if value != "" {
				server.Do("SET", key, value)
			}
		}
		a := acquired{apart: true, head: server.Do("GET", "head")}
		if got := s.fetch(t.Context(), l, []string{name, response}, &a); got != c.fetched || got == a.apart || got != (a.record != nil) {
			t.Errorf("%s: fetched: %t", c.what, got)
		}
	}
}
