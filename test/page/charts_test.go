package page_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// postTo sends a request with a key, and says how it was answered.
func postTo(t *testing.T, url, key string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url, strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Idempotency-Key", key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// The charts have what was before the page was opened, an axis of time, units, and values
// that the keyboard reaches; in the dark, too.
func TestCharts(t *testing.T) {
	t.Parallel()
	widths(t, func(t *testing.T, width int64, sized chromedp.Action) {
		a, ask := served(t)
		ctx := browser(t)
		// The samples are the process's: the page that is opened next finds those of this one.
		run(t, ctx, "samples", sized, chromedp.Navigate(a.AdminURL()+"/"), chromedp.Poll("past.samples.length > 1", nil))
		var before, first float64
		run(t, ctx, "opened anew", chromedp.Evaluate("past.samples[0].at", &before), chromedp.Navigate("about:blank"),
			chromedp.Navigate(a.AdminURL()+"/"), chromedp.Poll("past.samples.length > 1", nil), chromedp.Evaluate("past.samples[0].at", &first))
		if first != before {
			t.Errorf("the history begins at %.0f, and before at %.0f", first, before)
		}
		ask("/pay", "order-live", "x")
		run(t, ctx, "what is drawn", shows("#c-requests ul", "executed"), shows("#c-requests .plot", "/s"), shows("#c-store .plot", " ms"),
			shows("#c-backend .plot", " ms"), shows("#c-keys ul", "keys waiting for a person 2"), shows("#c-keys ul", "in flight here 1"),
			chromedp.Poll(`[...document.querySelectorAll("#c-requests .dygraph-axis-label-x")].some((e) => /^\d\d:\d\d$/.test(e.textContent))`, nil),
			shows("#began", "The process began at"), picture(t, fmt.Sprintf("charts-%d", width)))
		nothingCutOff(t, ctx, "the charts", width)
		var drawn bool
		run(t, ctx, "with ink", chromedp.Evaluate(`[...document.querySelectorAll("#c-requests canvas")].some((c) =>
			c.getContext("2d").getImageData(0, 0, c.width, c.height).data.some((v) => v > 0))`, &drawn))
		if !drawn {
			t.Error("nothing is drawn")
		}
		run(t, ctx, "by keyboard", shows("#c-store ul", "now"), chromedp.Focus("#c-store .plot"), chromedp.KeyEvent(kb.ArrowLeft),
			chromedp.KeyEvent(kb.ArrowLeft), chromedp.Poll(`/^\d\d:\d\d:\d\d$/.test(document.querySelector("#c-store .when").textContent)`, nil),
			chromedp.Evaluate("document.activeElement.blur()", nil), shows("#c-store ul", "now"))
		colour := func() (is string) {
			run(t, ctx, "a colour", chromedp.Evaluate(`getComputedStyle(document.querySelector("#c-store li i")).backgroundColor`, &is))
			return is
		}
		light := colour()
		run(t, ctx, "dark", emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}),
			chromedp.Poll(fmt.Sprintf(`getComputedStyle(document.querySelector("#c-store li i")).backgroundColor !== %q`, light), nil),
			picture(t, fmt.Sprintf("charts-dark-%d", width)))
	})
}
