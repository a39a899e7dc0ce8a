package proxy_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/proxy"
)

// Who asks for the response of a key in progress is told so, also where retries join it: a
// question has no payload that it could be compared by.
func TestAskingForWhatIsJoined(t *testing.T) {
	t.Parallel()
	a := newAsyncRig(t, func(c *proxy.Config) {
		c.Stream, c.Join = true, true
		c.Answers = proxy.Answers{MarkName: "X-Mark", MarkValue: "it is {key}"}
	})
	where := a.accepted("x-1", "x", "Authorization: me")
	<-a.arrived
	got := a.do(http.MethodGet, where+"&show=response", "", "", "Authorization: me")
	a.isProblem(got, http.StatusConflict, "in-progress")
	if want := `"idempotency_key":"x-1"`; !strings.Contains(got.body, want) {
		t.Errorf("it is not about the key that was asked about: %s", got.body)
	}
	a.let <- "made"
	<-a.ended
	got = a.do(http.MethodGet, where+"&show=response", "", "", "Authorization: me")
	if got.StatusCode != http.StatusCreated || got.body != "made" || got.Header.Get("X-Mark") != "it is x-1" {
		t.Errorf("%d %v %q", got.StatusCode, got.Header, got.body)
	}
}

// What is joined is marked as a replay is: by the route's own field, too.
func TestJoinedIsMarked(t *testing.T) {
	t.Parallel()
	s := newStreamRig(t, eventStream, func(c *proxy.Config) {
		c.Answers = proxy.Answers{MarkName: "X-Mark", MarkValue: "it is {key}"}
	})
	opened := make(chan *streamClient)
	go func() { opened <- s.open() }()
	s.say <- "data: a\n\n"
	first, second := <-opened, s.open()
	s.say <- sayEnd
	first.endsWith("data: a\n\n")
	second.endsWith("data: a\n\n")
	s.outcome(proxy.Joined, 1)
	for _, want := range []struct {
		of   *streamClient
		mark string
	}{{first, ""}, {second, "it is k"}, {s.open(), "it is k"}} {
		h := want.of.resp.Header
		if h.Get("X-Mark") != want.mark || (h.Get("Idempotent-Replayed") == "true") != (want.mark != "") {
			t.Errorf("%v, want the mark %q", h, want.mark)
		}
	}
}
