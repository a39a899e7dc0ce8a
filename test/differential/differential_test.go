package differential_test

import (
	"context"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/app"
	"github.com/idemproxy/idemproxy/config"
)

// known are faults of the proxy that are not mended yet, by message. One that is
// mended must be taken off the list.
func known() map[string]string {
	return map[string]string{}
}

// ways are what a reader does besides, which no proxy can help, by reader and
// message.
func ways() map[string]string {
	return map[string]string{
		"gunicorn: method in small letters": "it reads get as GET; RFC 9110 section 9.1 tells them apart, and so does the proxy",
	}
}

// startProxy runs the proxy with one connection to the backend, so that each
// message is followed by the next one on the same, if that is kept.
func startProxy(t *testing.T, backend string) (addr string) {
	t.Helper()
	c := config.Default()
	c.Listen, c.Admin, c.Store, c.Backends = []string{"127.0.0.1:0"}, "", "embedded:"+t.TempDir(), []string{"http://" + backend}
	c.MaxConns = 1
	a, err := app.New(c, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return strings.TrimPrefix(a.URL(), "http://")
}

// The corpus is as large as it says, and each message can be named.
func TestCorpus(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, m := range corpus() {
		if names[m.name] {
			t.Errorf("two messages are called %s", m.name)
		}
		names[m.name] = true
	}
	if len(names) < 400 {
		t.Errorf("%d messages, want 400 at least", len(names))
	}
	for name := range known() {
		if !names[name] {
			t.Errorf("%s is known, and no message", name)
		}
	}
}

// Whatever the proxy forwards is one request to every server that reads it, the
// one that the client meant.
func TestReadersAgree(t *testing.T) {
	t.Parallel()
	all := corpus()
	for _, reader := range readers() {
		t.Run(reader.name, func(t *testing.T) {
			t.Parallel()
			w := reader.start(t)
			p := newTap(t, w.addr)
			r := &rig{front: startProxy(t, p.addr), tap: p, reader: w}
			for i := range all {
				r.check(t, &all[i], false)
				if strings.Contains(all[i].text, "{k}") {
					r.check(t, &all[i], true)
				}
			}
			t.Logf("figure: %s read %d messages, %d of them on one connection with the request behind; it declined %d, and the proxy refused %d",
				reader.name, r.forwarded, r.kept, r.declined, r.refused)
			if r.forwarded < 450 || r.refused < 350 {
				t.Error("that is too few to mean something")
			}
			if r.kept < r.forwarded*9/10 {
				t.Error("most requests are alone on their connections, where nothing can be smuggled")
			}
		})
	}
}

func (r *rig) check(t *testing.T, m *message, keyed bool) {
	t.Helper()
	v := r.look(m, keyed)
	if _, is := ways()[r.reader.name+": "+m.name]; is {
		return
	}
	what := m.name
	if keyed {
		what += ", with a key"
	}
	why, is := known()[m.name]
	switch {
	case is && len(v.faults) == 0:
		t.Errorf("%s is right now (%s): take it off the list of what is known", what, why)
	case !is && len(v.faults) > 0:
		t.Errorf("%s\n%s\nthe client sent %.600q\nthe proxy sent %.1200q", what, strings.Join(v.faults, "\n"), m.text, v.raw)
	}
}
