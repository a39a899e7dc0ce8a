package page_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/idemproxy/idemproxy/config"
)

// A key whose response has no body, or was too large to keep, is shown as what it is: previously the
// page said of both that the proxy could not look.
func TestKeysWithoutABody(t *testing.T) {
	t.Parallel()
	a, _ := served(t, func(c *config.Config) { c.MaxResponseBody = 8 })
	resp, err := http.Post(a.AdminURL()+"/keys/resolve", "application/json", //nolint:noctx // a test
		strings.NewReader(`{"key":"held-1","confirm":true,"action":"complete","status":204}`))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	ctx := browser(t)
	run(t, ctx, "empty", chromedp.Navigate(a.AdminURL()+"/"), shows("#state", "Ready"), chromedp.SendKeys("#lookup [name=key]", "held-1"+kb.Enter),
		shows("#k-state", "completed"), shows("#k-can", "Retries get the response below"), shows("#k-record", "It has no body"))
	run(t, ctx, "too large", chromedp.NavigateBack(), chromedp.WaitVisible("#overview"), write("#lookup [name=key]", "order-1"+kb.Enter),
		shows("#k-state", "completed"), shows("#k-can", "Retries get 409"), shows("#k-record", "too large to keep"), lacks("#k-record", "replayed for"))
}

// A long key leaves the buttons beside it, and in the dialog, in sight.
func TestLongKeys(t *testing.T) {
	t.Parallel()
	widths(t, func(t *testing.T, width int64, sized chromedp.Action) {
		a, ask := served(t)
		long := strings.Repeat("L", 255)
		ask("/cut", long, "x")
		ctx := browser(t)
		run(t, ctx, "the page comes up", sized, chromedp.Navigate(a.AdminURL()+"/"), shows("#unknown", long), picture(t, fmt.Sprintf("long-%d", width)))
		nothingCutOff(t, ctx, "a long key", width)
		run(t, ctx, "the dialog", click(fmt.Sprintf(`button[aria-label="It was executed %s"]`, long)), chromedp.WaitVisible("#ask[open]"),
			picture(t, fmt.Sprintf("long-ask-%d", width)))
		nothingCutOff(t, ctx, "its dialog", width)
		var over bool
		run(t, ctx, "its title", chromedp.Evaluate(`$("ask").scrollWidth > $("ask").clientWidth`, &over))
		if over {
			t.Errorf("the dialog's title is cut off at %d px", width)
		}
	})
}

// Who clicks twice on what opens a dialog has not agreed to what it asks, though the second click meets the button
// that agrees: it comes up just there, at both widths.
func TestADoubleClickAgreesToNothing(t *testing.T) {
	t.Parallel()
	widths(t, func(t *testing.T, width int64, sized chromedp.Action) {
		a, ask := served(t)
		for i := range 8 { // room to scroll
			ask("/cut", fmt.Sprint("cut-", i), "x")
		}
		ctx := browser(t)
		const isOpen = `$("ask").open`
		var at []float64
		var key string
		run(t, ctx, "in place", sized, chromedp.Navigate(a.AdminURL()+"/"), shows("#state", "Ready"), shows("#reasons", "10 keys wait"),
			shows("#reasons", "backend-cut"), shows("#unknown", "cut-2"), // all that pushes the rows down is there
			chromedp.Evaluate(`[...document.querySelectorAll("#unknown tbody a")].at(-1).textContent`, &key)) // the last, so that it can be scrolled
		opens := fmt.Sprintf(`button[aria-label="It was executed %s"]`, key)
		run(t, ctx, "where", click(opens), polled(isOpen), chromedp.Evaluate(`window.yes = $("ask-yes").getBoundingClientRect().toJSON(); $("ask").close()`, nil),
			chromedp.Evaluate(fmt.Sprintf(`(() => {
				const b = document.querySelector(%q), y = yes.y + yes.height / 2;
				scrollBy(0, b.getBoundingClientRect().y + b.offsetHeight / 2 - y);
				const r = b.getBoundingClientRect();
				return [Math.max(r.x, yes.x) + 2, y, Math.min(r.right, yes.right)];
			})()`, opens), &at))
		if at[0] >= at[2] {
			t.Fatalf("the buttons are not above each other: %v", at)
		}
		press := func(count int64) chromedp.Action {
			return chromedp.ActionFunc(func(ctx context.Context) error {
				for _, kind := range []input.MouseType{input.MousePressed, input.MouseReleased} {
					if err := input.DispatchMouseEvent(kind, at[0], at[1]).WithButton(input.Left).WithClickCount(count).Do(ctx); err != nil {
						return err
					}
				}
				return nil
			})
		}
		var stays bool
		run(t, ctx, "twice", press(1), polled(isOpen), press(2), chromedp.Evaluate(isOpen, &stays))
		if !stays {
			t.Fatal("a double click has agreed")
		}
		run(t, ctx, "and once", press(1), polled("!"+isOpen), polled(fmt.Sprintf("!document.querySelector(%q)", opens)))
	})
}

// While a bulk act is under way the page says so, and neither the filters nor another dry run take Stop away.
func TestManyKeysUnderWay(t *testing.T) {
	t.Parallel()
	a, _ := served(t) // which holds two
	ctx := browser(t)
	var said string
	var open, filters bool
	run(t, ctx, "under way", chromedp.Navigate(a.AdminURL()+"/"), shows("#reasons", "2 keys wait"), click(`#reasons button[data-leads="many"]`),
		click("#many-show"), shows("#many-said", "It would be 2 keys"), gated(1), click("#many-free"), click("#ask-yes"), polled("window.atGate"),
		chromedp.Text("#many-said", &said), chromedp.Evaluate(`[...$("many-form").elements].some((e) => !e.disabled)`, &filters),
		chromedp.Evaluate(`$("many-form").requestSubmit(); document.querySelector("#many-acts button")?.textContent === "Stop"`, &open))
	if strings.Contains(said, "nothing was changed") || !strings.Contains(said, "2 keys are being freed") {
		t.Errorf("under way the page says %q", said)
	}
	if filters || !open {
		t.Errorf("a filter can be changed: %v; Stop is there after a submit: %v", filters, open)
	}
	run(t, ctx, "done", chromedp.Evaluate("void gate.pass()", nil), shows("#many-said", "2 keys freed"), chromedp.WaitEnabled("#many-show"))
}

// How many keys wait is an old number while the store is away, and said to be one.
func TestAnOldCountIsSaidToBeOld(t *testing.T) {
	t.Parallel()
	a, _ := served(t)
	ctx := browser(t)
	var before, after string
	run(t, ctx, "the banner", chromedp.Navigate(a.AdminURL()+"/"), shows("#reasons", "2 keys wait for a person: retries"),
		chromedp.Evaluate(`countedMS = 80000; banner(); $("reasons").textContent`, &before),
		chromedp.Evaluate(`countedMS = 300000; banner(); $("reasons").textContent`, &after))
	if strings.Contains(before, "counted") || !strings.Contains(after, "2 keys wait for a person, as counted 5.0 min ago: retries") {
		t.Errorf("the banner says %q, and 5 minutes after the count %q", before, after)
	}
}

// The page says what is wrong with a token, instead of asking again without a word, or of saying that
// nobody answers.
func TestWrongTokens(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, _ := served(t, func(c *config.Config) { c.AdminTokenFile = file })
	ctx := browser(t)
	const field = "#login [name=token]"
	run(t, ctx, "asked", chromedp.Navigate(a.AdminURL()+"/"), chromedp.WaitVisible("#login[open]"), lacks("#login", "refused"),
		chromedp.SendKeys(field, "wrong"+kb.Enter), shows("#login-said", "refused this token"),
		// As if it was pasted.
		chromedp.Evaluate(fmt.Sprintf(`document.querySelector(%q).value = "0123456789\u200babcdef"`, field), nil), click("#login button"),
		shows("#login-said", "no header field can have"),
		write(field, " 0123456789abcdef "+kb.Enter), shows("#state", "Ready"), shows("#unknown", "held-1"))
}
