package page_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// gated has the page's acts on keys wait from the nth on, counted from 1. What is then done with
// the waiting one is said by open: a JavaScript expression.
func gated(nth int) chromedp.Action {
	return chromedp.Evaluate(fmt.Sprintf(`(() => {
		const real = window.realFetch ??= window.fetch;
		let acts = 0;
		window.atGate = false;
		window.fetch = (url, ...rest) => {
			if (!String(url).startsWith("keys/resolve") || ++acts !== %d) return real(url, ...rest);
			window.atGate = true;
			return new Promise((answer, fail) => { window.gate = { pass: () => answer(real(url, ...rest)), answer, fail }; });
		};
	})()`, nth), nil)
}

func open(how string) chromedp.Action { return chromedp.Evaluate("void gate."+how, nil) }

// A person who stops a bulk act stops it: the act under way is finished, whether it works or fails, and
// no further key is touched. It also stops when nobody answers.
func TestManyKeysStop(t *testing.T) {
	t.Parallel()
	a, ask := served(t) // which holds two
	for i := range 6 {
		ask("/cut", fmt.Sprint("cut-", i), "x")
	}
	ctx := browser(t)
	begin := func(keys, nth int) {
		t.Helper()
		run(t, ctx, "begun", click("#many-show"), shows("#many-said", fmt.Sprintf("It would be %d keys", keys)), gated(nth), click("#many-free"), click("#ask-yes"),
			chromedp.Poll("window.atGate", nil), chromedp.Poll(fmt.Sprintf(`document.querySelector("#many-acts progress").value === %d`, nth-1), nil))
	}
	run(t, ctx, "the page comes up", chromedp.Navigate(a.AdminURL()+"/"), shows("#reasons", "8 keys wait"), click(`#reasons button[data-leads="many"]`))

	begin(8, 3)
	var focused string
	run(t, ctx, "the focus is on it", chromedp.Evaluate("document.activeElement.textContent", &focused))
	if focused != "Stop" {
		t.Errorf("the focus is on %q", focused)
	}
	run(t, ctx, "stopped while one works", picture(t, "many-stop"), click("#many-acts button"), open("pass()"),
		shows("#many-said", "3 keys freed, 0 failed, 5 not tried."), shows("#reasons", "5 keys wait"))

	begin(5, 2)
	run(t, ctx, "stopped while one fails", click("#many-acts button"), open(`answer(new Response('{"title": "no"}', { status: 409 }))`),
		shows("#many-said", "1 key freed, 1 failed, 3 not tried."), chromedp.WaitVisible("#many-failed"), shows("#reasons", "4 keys wait"))

	begin(4, 2)
	run(t, ctx, "nobody answers", open(`fail(new TypeError("Failed to fetch"))`),
		shows("#many-said", "1 key freed, 1 failed, 2 not tried."), shows("#reasons", "3 keys wait"))

	if status := ask("/pay", "cut-5", "x"); status == http.StatusCreated {
		t.Error("the youngest key was freed: it was never tried")
	}
	if status := ask("/pay", "held-1", "x"); status != http.StatusCreated {
		t.Errorf("the oldest key, freed first: %d", status)
	}
}

// Failures of less than one request in a hundred are listed, but do not colour the banner.
func TestBannerThreshold(t *testing.T) {
	t.Parallel()
	b := backendtest.Start(t, func(c backendtest.Conn, _ *backendtest.Request) { _ = c.Close() })
	addr := strings.TrimPrefix(b.URL(), "http://")
	c := config.Default()
	c.Listen, c.Admin, c.Backends = []string{"127.0.0.1:0"}, "127.0.0.1:0", []string{"http://" + addr}
	c.Store, c.OnAmbiguous = "embedded:"+t.TempDir(), idem.AmbiguousRelease
	a, _ := proxyOf(t, &c)
	ctx := browser(t)
	run(t, ctx, "ready", chromedp.Navigate(a.AdminURL()+"/"), shows("#state", "Ready"), chromedp.WaitVisible("#banner.good"))
	// of shows the banner for a minute of so many requests, and puts back at once what was there.
	of := func(cut, executed int) (banner []string) {
		run(t, ctx, "a minute", chromedp.Evaluate(fmt.Sprintf(`(() => {
			const samples = past.samples;
			past.samples = [{ at: Date.now(), over_ms: 1000, requests: Object.fromEntries([["executed", %d], ["backend-cut", %d]].filter(([, n]) => n)) }];
			banner();
			const was = [$("banner").className, $("state").textContent, $("reasons").textContent];
			past.samples = samples;
			banner();
			return was;
		})()`, executed, cut), &banner))
		return banner
	}
	for _, is := range []struct {
		cut, executed      int
		grave, text, share string
	}{
		{0, 100, "good", "Ready", ""},
		{1, 99, "warn", "Ready, but requests fail", "1 in the last minute, 1.0 % of all"},
		{1, 199, "good", "Ready", "1 in the last minute, 0.5 % of all"},
		{1, 1, "warn", "Ready, but requests fail", "1 in the last minute, 50 % of all"},
	} {
		got := of(is.cut, is.executed)
		if got[0] != is.grave || got[1] != is.text || !strings.Contains(got[2], is.share) || (is.share == "") != (got[2] == "") {
			t.Errorf("%d cut of %d: %q, want %s, %q and %q", is.cut, is.cut+is.executed, got, is.grave, is.text, is.share)
		}
	}
	if status := postTo(t, a.URL()+"/pay", "cut-1"); status != http.StatusBadGateway {
		t.Errorf("a cut: %d", status)
	}
	run(t, ctx, "a real one", chromedp.WaitVisible("#banner.warn"), shows("#state", "Ready, but requests fail"), shows("#reasons", "backend-cut"))
}

// Each view is drawn for people at both widths, in light and in dark, with nothing cut off.
func TestViews(t *testing.T) {
	t.Parallel()
	widths(t, func(t *testing.T, width int64, sized chromedp.Action) {
		a, _ := served(t)
		ctx := browser(t)
		for _, scheme := range []string{"light", "dark"} {
			dressed := emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}})
			see := func(view string, actions ...chromedp.Action) {
				t.Helper()
				run(t, ctx, view, append(actions, picture(t, fmt.Sprintf("view-%s-%s-%d", view, scheme, width)))...)
				nothingCutOff(t, ctx, view+" in "+scheme, width)
			}
			see("overview", sized, dressed, chromedp.Navigate("about:blank"), chromedp.Navigate(a.AdminURL()+"/"), shows("#reasons", "2 keys wait"), shows("#live", "mismatch"),
				shows("#c-keys ul", "in flight here 1"))
			see("settings", click("#all-settings"), shows("#settings", "lock_ttl"), click("#all-settings"))
			see("many", click(`#reasons button[data-leads="many"]`), click("#many-show"), shows("#many-list", "held-2"))
			see("ask", click("#many-complete"), chromedp.WaitVisible("#ask[open]"))
			see("held", chromedp.Evaluate(`document.querySelector("#ask").close()`, nil), click("#unknown a"), shows("#k-state", "unknown"))
			see("completed", chromedp.NavigateBack(), chromedp.WaitVisible("#overview"), write("#lookup [name=key]", "order-1\r"), shows("#k-state", "completed"),
				click("#show-body"), shows("#k-record", "ch_7"))
			see("absent", chromedp.NavigateBack(), chromedp.WaitVisible("#overview"), write("#lookup [name=key]", "nobody\r"), shows("#found", "no record"))
		}
	})
}
