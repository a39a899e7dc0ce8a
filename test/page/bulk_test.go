package page_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// Many keys are shown before anything is done, are done with by one act, and what could not
// be done is listed.
func TestManyKeys(t *testing.T) {
	t.Parallel()
	widths(t, func(t *testing.T, width int64, sized chromedp.Action) {
		a, ask := served(t) // which holds two
		const more = 12
		for i := range more {
			ask("/cut", fmt.Sprint("cut-", i), "x")
		}
		ctx := browser(t)
		run(t, ctx, "which", sized, chromedp.Navigate(a.AdminURL()+"/"),
			// What is clicked stays where it is once the banner has said all.
			shows("#reasons", "backend-cut"), shows("#reasons", "14 keys wait"), click(`#reasons button[data-leads="many"]`), click("#many-show"),
			shows("#many-said", "nothing was changed. It would be 14 keys"), shows("#many-list", "held-1"), shows("#many-list", "cut-11"),
			picture(t, fmt.Sprintf("many-%d", width)))
		nothingCutOff(t, ctx, "many keys", width)

		for filter, said := range map[[2]string]string{
			{"older", "1h"}: "There is no such key", {"older", "soon"}: "want a number with s, m, h or d",
			{"route", "elsewhere"}: "14 keys in that state left out", {"route", "default"}: "It would be 14 keys", {"scope", "host=x"}: "There is no such key",
		} {
			field := "#many-form [name=" + filter[0] + "]"
			run(t, ctx, filter[1], chromedp.SendKeys(field, filter[1]+kb.Enter), shows("#many-said", said))
			if !strings.Contains(said, "14 keys") || filter[1] == "elsewhere" {
				run(t, ctx, "nothing to act on", chromedp.WaitNotPresent("#many-acts button"))
			}
			run(t, ctx, "without it", write(field, ""))
		}

		// Thinking better of it changes nothing.
		run(t, ctx, "cancelled", click("#many-show"), click("#many-free"), shows("#ask-text", "each of these keys will be executed"),
			picture(t, fmt.Sprintf("many-ask-%d", width)), chromedp.SendKeys("#ask", kb.Escape), chromedp.WaitNotPresent("#ask[open]"))
		if status := ask("/pay", "cut-0", "x"); status != http.StatusUnprocessableEntity && status != http.StatusConflict {
			t.Errorf("after thinking better of it: %d", status)
		}
		// Somebody else was faster with one of them.
		resp, err := http.Post(a.AdminURL()+"/keys/resolve", "application/json", //nolint:noctx // a test
			strings.NewReader(`{"key":"cut-3","confirm":true,"action":"complete","status":204}`))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		run(t, ctx, "freed by keyboard", chromedp.Focus("#many-free"), chromedp.KeyEvent(kb.Enter), chromedp.WaitVisible("#ask[open]"), shows("#ask-title", "Free 14 keys?"),
			chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter), shows("#many-said", "13 keys freed, 1 failed."),
			shows("#many-failed", "cut-3"), shows("#many-failed", "This key is completed"), lacks("#unknown", "held-1"), picture(t, fmt.Sprintf("many-done-%d", width)))
		nothingCutOff(t, ctx, "what failed", width)
		if status := ask("/pay", "cut-11", "x"); status != http.StatusCreated {
			t.Errorf("a freed key: %d", status)
		}

		ask("/cut", "late-1", "x")
		ask("/cut", "late-2", "x")
		run(t, ctx, "completed", click("#many-show"), shows("#many-said", "It would be 2 keys"), click("#many-complete"),
			write("#ask [name=status]", "202"), click("#ask-yes"), shows("#many-said", "2 keys completed, 0 failed."))
		if status := ask("/cut", "late-2", "x"); status != http.StatusAccepted {
			t.Errorf("a completed key: %d", status)
		}
		run(t, ctx, "in progress", chromedp.SetValue("#many-form [name=state]", "in-progress"), click("#many-show"),
			shows("#many-said", "It would be 1 key"), shows("#many-list", "running-1"), click("#many-release"), shows("#ask-text", "under way goes on"),
			click("#ask-yes"), shows("#many-said", "1 key released, 0 failed."), shows("#running", "none"))
	})
}
