package page_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// titled waits for the title of the tab.
func titled(want string) chromedp.Action {
	return polled(fmt.Sprintf("document.title === %q", want))
}

// nothingCutOff checks that all that is shown is within the width of the window.
func nothingCutOff(t *testing.T, ctx context.Context, what string, width int64) { //nolint:revive // t first, as elsewhere
	t.Helper()
	var over []string
	run(t, ctx, what, chromedp.Evaluate(`[...document.querySelectorAll("button, input, select, a, td, li, figure, pre")].filter((e) => {
		const r = e.getBoundingClientRect();
		return r.width > 0 && !e.matches(".skip") && r.right > innerWidth + 1;
	}).map((e) => e.outerHTML.slice(0, 120))`, &over))
	if len(over) > 0 {
		t.Errorf("%s: cut off at %d px: %q", what, width, over)
	}
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
				nothingCutOff(t, ctx, what, width)
			}
			run(t, ctx, "history", emulation.SetDeviceMetricsOverride(width, 900, 1, width < 500), chromedp.Navigate(a.AdminURL()+"/"),
				shows("#state", "Ready"), shows("#live", "mismatch"), shows("#live", "backend-cut"), shows("#running", "running-1"),
				titled("(2) IdemProxy"), shows("#waiting", "2"), picture(t, fmt.Sprintf("overview-%d", width)))
			fits("the overview")
			run(t, ctx, "only those cut", chromedp.SendKeys("#filters [name=status]", "5xx"), lacks("#live", "mismatch"), shows("#live", "backend-cut"))
			run(t, ctx, "by mouse", click("#live a"), shows("#k-state", "unknown"), shows("#k-attempts", "backend-cut"),
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
