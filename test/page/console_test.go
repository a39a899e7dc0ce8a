package page_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/app"
	"github.com/idemproxy/idemproxy/config"
)

// titled waits for the title of the tab.
func titled(want string) chromedp.Action {
	return chromedp.Poll(fmt.Sprintf("document.title === %q", want), nil)
}

// What was decided before the page was opened is there, and a line leads to its key, by
// mouse and by keyboard, also at the width of a phone.
func TestRequestsAndKeys(t *testing.T) {
	t.Parallel()
	for _, width := range []int64{390, 1280} {
		t.Run(fmt.Sprint(width), func(t *testing.T) {
			t.Parallel()
			a, ask := served(t)
			ctx := browser(t)
			fits := func(what string) {
				t.Helper()
				var over []string
				run(t, ctx, what, chromedp.Evaluate(`[...document.querySelectorAll("button, input, a, td, pre")].filter((e) => {
					const r = e.getBoundingClientRect();
					return r.width > 0 && !e.matches(".skip") && r.right > innerWidth + 1;
				}).map((e) => e.outerHTML.slice(0, 120))`, &over))
				if len(over) > 0 {
					t.Errorf("%s: cut off at %d px: %q", what, width, over)
				}
			}
			run(t, ctx, "history", emulation.SetDeviceMetricsOverride(width, 900, 1, width < 500), chromedp.Navigate(a.AdminURL()+"/"),
				shows("#state", "Ready"), shows("#live", "mismatch"), shows("#live", "backend-cut"), shows("#running", "running-1"),
				titled("(2) IdemProxy"), shows("#waiting", "2"), picture(t, fmt.Sprintf("overview-%d", width)))
			fits("the overview")
			run(t, ctx, "only those cut", chromedp.SendKeys("#filters [name=status]", "5xx"), lacks("#live", "mismatch"), shows("#live", "backend-cut"))
			run(t, ctx, "by mouse", chromedp.Click("#live a"), shows("#k-state", "unknown"), shows("#k-attempts", "backend-cut"),
				shows("#k-can", "Look in the backend"), picture(t, fmt.Sprintf("held-%d", width)))
			fits("a key")
			var focused string
			run(t, ctx, "the heading has the focus", chromedp.Evaluate("document.activeElement.id", &focused))
			if focused != "k-digest" {
				t.Errorf("the focus is on %q", focused)
			}
			run(t, ctx, "its own address", chromedp.Reload(), shows("#k-state", "unknown"))
			run(t, ctx, "by keyboard", chromedp.Focus("#k-record button"), chromedp.KeyEvent(kb.Enter), shows("#ask-text", "will be executed"),
				chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter), shows("#k-state", "no record"), titled("(1) IdemProxy"))
			for _, key := range []string{"held-1", "held-2"} {
				ask("/pay", key, "x")
			}
		})
	}
}

// The banner says what a balancer would be told, and why: never that all is well while the
// backend cannot be reached.
func TestReadinessIsLostAndRegained(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve := func(ln net.Listener) *http.Server {
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })}
		go func() { _ = s.Serve(ln) }()
		return s
	}
	backend := serve(ln)
	c := config.Default()
	c.Listen, c.Admin, c.Store = []string{"127.0.0.1:0"}, "127.0.0.1:0", "embedded:"+t.TempDir()
	c.Backends = []string{"http://" + ln.Addr().String()}
	a, err := app.New(c, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(running) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	ctx := browser(t)
	run(t, ctx, "ready", chromedp.Navigate(a.AdminURL()+"/"), shows("#state", "Ready"), titled("IdemProxy"))
	_ = backend.Close()
	run(t, ctx, "lost", shows("#state", "Not ready"), shows("#reasons", "backend"), shows("#reasons", "refused"), titled("not ready: IdemProxy"),
		chromedp.WaitVisible("#banner.bad"), picture(t, "not-ready"))
	if ln, err = net.Listen("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	backend = serve(ln)
	t.Cleanup(func() { _ = backend.Close() })
	run(t, ctx, "regained", shows("#state", "Ready"), titled("IdemProxy"), chromedp.WaitVisible("#banner.good"), lacks("#reasons", "refused"))
}
