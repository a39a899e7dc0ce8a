package differential_test

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
)

// plants are forwarders that the suite must see through. The first has no bug:
// what it does is right, on messages that are easy.
func plants() []plant {
	length, chunk := "lookalike: request", "lookalike in chunks: request"
	nothing := `means nothing|the client meant \[\]` // declined by some, and read by others
	return []plant{
		{name: "none", messages: []string{length, chunk, "method GET", "method HEAD", "pipeline: three", "body of all bytes", "chunks: two", "coding \"Transfer-Encoding: chunked\""}},
		{
			name: "forgets where the body ends", messages: []string{length, "method PATCH with a body", "method OPTIONS with a body"}, want: "/smuggled", answers: 2, stuck: true,
			forward: func(q *naiveRequest) []byte { return append([]byte(q.unframed()+"\r\n"), q.body...) },
		},
		{
			name: "forgets the length of a GET", messages: []string{"method GET with a body", "method GET with chunks"}, want: "/smuggled", answers: 2, stuck: true,
			forward: func(q *naiveRequest) []byte {
				if strings.HasPrefix(q.head, "GET") {
					return append([]byte(q.unframed()+"\r\n"), q.body...)
				}
				return q.whole()
			},
		},
		{
			name: "believes the length beside a coding", byLength: true, want: nothing,
			messages: []string{`bad coding: "Content-Length: 43\r\nTransfer-Encoding: chunked"`, `bad coding: "Transfer-Encoding: chunked\r\nContent-Length: 43"`},
		},
		{
			name: "lets LF pass", stuck: true, want: nothing,
			messages: []string{`bad coding: "X: y\nTransfer-Encoding: chunked"`, "bad length: behind LF"},
		},
		{
			name: "lets a fold pass", stuck: true, want: nothing,
			messages: []string{`bad coding: "Transfer-Encoding:\r\n chunked"`, `bad coding: "X: y\r\n Transfer-Encoding: chunked"`},
		},
		{
			name: "sends twice", messages: []string{length, "method GET"}, answers: 2, stuck: true, want: "the client meant",
			forward: func(q *naiveRequest) []byte { return bytes.Repeat(q.whole(), 2) },
		},
		{
			name: "loses the last byte", messages: []string{length, "body of CRLFs"}, want: "the client meant",
			forward: func(q *naiveRequest) []byte { return q.framed(q.body[:len(q.body)-1]) },
		},
		{
			name: "takes chunks for a body", messages: []string{chunk, "chunks: extension"}, want: "the client meant",
			forward: func(q *naiveRequest) []byte { return q.framed(q.raw) },
		},
		{
			name: "makes one slash of two", messages: []string{"target //a", "target /a//b"}, want: "the client meant",
			forward: func(q *naiveRequest) []byte { return []byte(strings.ReplaceAll(q.head, "//", "/")) },
		},
		{name: "answers in the backend's place", messages: []string{length, "method GET"}, alone: true, want: "nothing was read"},
		{name: "answers with the answer before", messages: []string{length, "method GET"}, stale: true, want: "the request behind it was answered"},
	}
}

// Each reader sees each bug: the suite can fail.
func TestTheSuiteSeesSmuggling(t *testing.T) {
	t.Parallel()
	all := map[string]message{}
	for _, m := range corpus() {
		all[m.name] = m
	}
	for _, reader := range readers() {
		t.Run(reader.name, func(t *testing.T) {
			t.Parallel()
			w := reader.start(t)
			for _, p := range plants() {
				var said []string
				for _, name := range p.messages {
					m, is := all[name]
					if !is {
						t.Fatalf("no message is called %s", name)
					}
					said = append(said, lookThrough(t, w, &p, &m)...)
				}
				switch together := strings.Join(said, "\n"); {
				case p.want == "" && together != "":
					t.Errorf("of a forwarder without a bug is said: %s", together)
				case !regexp.MustCompile(p.want).MatchString(together):
					t.Errorf("of a forwarder that %s is said, and not %q: %s", p.name, p.want, together)
				}
			}
		})
	}
}

// lookThrough has one message go through a forwarder of its own.
func lookThrough(t *testing.T, w *running, p *plant, m *message) (faults []string) {
	t.Helper()
	w.records.take()
	wire := newTap(t, w.addr)
	front, stop := startNaive(t, wire.addr, p)
	defer stop()
	v := (&rig{front: front, tap: wire, reader: w}).look(m, false)
	return v.faults
}
