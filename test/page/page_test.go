package page_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/app"
	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// browser is a tab of a headless browser without a network but loopback. What
// goes wrong in the page fails the test.
func browser(t *testing.T) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("chromium is missing: scripts/test.sh installs it")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox,
		chromedp.UserDataDir(profile(t)), chromedp.WindowSize(1200, 1800), chromedp.WSURLReadTimeout(2*time.Minute),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"))
	allocated, cancelAllocated := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancelAllocated)
	ctx, cancel := chromedp.NewContext(allocated, chromedp.WithErrorf(func(string, ...any) {})) // of events that the driver does not know
	t.Cleanup(cancel)
	ctx, cancelTimeout := context.WithTimeout(ctx, 4*time.Minute)
	t.Cleanup(cancelTimeout)
	chromedp.ListenTarget(ctx, func(event any) {
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			t.Errorf("the page throws: %s", e.ExceptionDetails.Error())
		case *log.EventEntryAdded:
			if e.Entry.Source == log.SourceSecurity {
				t.Errorf("the page breaks its own policy: %s", e.Entry.Text)
			}
		case *network.EventRequestWillBeSent:
			if url := e.Request.URL; !strings.HasPrefix(url, "http://127.0.0.1:") && !strings.HasPrefix(url, "data:") {
				t.Errorf("the page loads %s", url)
			}
		}
	})
	if err := chromedp.Run(ctx, network.Enable(), log.Enable()); err != nil {
		t.Fatal(err)
	}
	return ctx
}

// profile is a directory that goes away when the browser's processes have ended: some write for
// a moment after the browser has.
func profile(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "idemproxy-chromium")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := os.RemoveAll(dir)
		for deadline := time.Now().Add(time.Minute); err != nil && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			err = os.RemoveAll(dir)
		}
		if err != nil {
			t.Errorf("the browser goes on writing: %v", err)
		}
	})
	return dir
}

// served is a proxy with a key in each state, and its page.
func served(t *testing.T, change ...func(*config.Config)) (a *app.App, ask func(path, key, body string) int) {
	t.Helper()
	entered, proceed := make(chan struct{}), make(chan struct{})
	b := backendtest.Start(t, func(c backendtest.Conn, q *backendtest.Request) {
		switch q.URL.Path {
		case "/cut":
			_ = c.Close()
			return
		case "/slow":
			entered <- struct{}{}
			<-proceed
		}
		c.Answer(201, `{"charge": "<b>ch_7</b>"}`, "Content-Type: application/json")
	})
	c := config.Default()
	c.Listen, c.Admin, c.Store, c.Backends = []string{"127.0.0.1:0"}, "127.0.0.1:0", "embedded:"+t.TempDir(), []string{b.URL()}
	c.OnAmbiguous = idem.AmbiguousHold
	for _, f := range change {
		f(&c)
	}
	a, err := app.New(c, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	ask = func(path, key, body string) int {
		req, err := http.NewRequest(http.MethodPost, a.URL()+path, strings.NewReader(body)) //nolint:noctx // a test
		if err != nil {
			t.Error(err)
			return 0
		}
		req.Header.Set("Idempotency-Key", key)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			return 0
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	for i := range 12 {
		ask("/pay", fmt.Sprint("order-", i%5), "x")
	}
	ask("/pay", "order-1", "another payload")
	ask("/cut", "held-1", "x")
	ask("/cut", "held-2", "x")
	slow := make(chan struct{})
	go func() {
		defer close(slow)
		ask("/slow", "running-1", "x")
	}()
	<-entered
	t.Cleanup(func() {
		close(proceed)
		<-slow
		cancel()
		http.DefaultClient.CloseIdleConnections()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return a, ask
}

// shows waits until an element's text has what is wanted.
func shows(selector, want string) chromedp.Action {
	return polled(fmt.Sprintf("document.querySelector(%q)?.textContent.includes(%q)", selector, want))
}

// polled waits until an expression is true in the document of now. That of before may still be the one that is asked just
// after a navigation, and be gone at the answer.
func polled(expression string) chromedp.Action {
	return chromedp.ActionFunc(func(ctx context.Context) error {
		for {
			err := chromedp.Poll(expression, nil, chromedp.WithPollingTimeout(20*time.Second)).Do(ctx)
			if err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "Cannot find context with specified id") {
				return err
			}
		}
	})
}

// click clicks what is seen at an element's place, which must be the element: nothing lies over it, and it can be scrolled to.
// That is found and clicked at once, since what the page hears of meanwhile may push it away; a mouse of the browser's
// driver would come later. See mouse.
func click(selector string) chromedp.Action {
	hit := fmt.Sprintf(`(() => {
		const e = document.querySelector(%q);
		e?.scrollIntoView({ block: "center" });
		const r = e?.getBoundingClientRect(), there = r && document.elementFromPoint(r.x + r.width / 2, r.y + r.height / 2);
		if (!there || !e.contains(there) && !there.contains(e)) return false;
		e.focus();
		e.click();
		return true;
	})()`, selector)
	return polled(hit)
}

// mouse has the browser's driver move its mouse to an element and click, again and again until something is there: the page
// may push the element away meanwhile, or the key in its row may have changed, and the row with it.
func mouse(selector, until string) chromedp.Action {
	return chromedp.ActionFunc(func(ctx context.Context) error {
		var err error
		there := false
		for deadline := time.Now().Add(time.Minute); !there; {
			if time.Now().After(deadline) {
				return fmt.Errorf("clicks on %s do not bring about %s: %w", selector, until, err)
			}
			if err = chromedp.Click(selector, chromedp.NodeVisible).Do(ctx); err == nil {
				_ = chromedp.Poll(fmt.Sprintf("document.querySelector(%q) !== null", until), &there, chromedp.WithPollingTimeout(time.Second)).Do(ctx)
			}
		}
		return nil
	})
}

func lacks(selector, gone string) chromedp.Action {
	return polled(fmt.Sprintf("!document.querySelector(%q)?.textContent.includes(%q)", selector, gone))
}

// write takes the place of what is in a field.
func write(selector, text string) chromedp.Action {
	return chromedp.Tasks{
		chromedp.Evaluate(fmt.Sprintf("document.querySelector(%q).select()", selector), nil),
		chromedp.SendKeys(selector, kb.Backspace),
		chromedp.SendKeys(selector, text),
	}
}

// picture keeps what the page looks like, for people: SCREENSHOTS names a folder.
func picture(t *testing.T, name string) chromedp.Action {
	t.Helper()
	return chromedp.ActionFunc(func(ctx context.Context) error {
		dir := os.Getenv("SCREENSHOTS")
		if dir == "" {
			return nil
		}
		var png []byte
		if err := chromedp.FullScreenshot(&png, 100).Do(ctx); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600)
	})
}

func run(t *testing.T, ctx context.Context, what string, actions ...chromedp.Action) { //nolint:revive // t first, as elsewhere
	t.Helper()
	if err := chromedp.Run(ctx, actions...); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// The page shows what happens, finds a key, and resolves one.
func TestPage(t *testing.T) {
	t.Parallel()
	a, ask := served(t)
	ctx := browser(t)
	run(t, ctx, "the page comes up", chromedp.Navigate(a.AdminURL()+"/"), shows("#state", "Ready"),
		shows("#outcomes", "executed"), shows("#outcomes", "mismatch"), shows("#unknown", "held-1"), shows("#unknown", "held-2"),
		shows("#running", "running-1"), shows("#backends", "in use"), shows("#leases", "1"))

	ask("/pay", "order-live", "x")
	run(t, ctx, "a decision is shown live", shows("#live", "/pay"), picture(t, "light"))
	run(t, ctx, "others are filtered out", chromedp.SendKeys("#filters [name=outcome]", "nothing-like-it"), shows("#live", "none"),
		write("#filters [name=outcome]", ""), chromedp.SendKeys("#filters [name=outcome]", "executed"), shows("#live", "/pay"), lacks("#live", "mismatch"),
		write("#filters [name=outcome]", ""), shows("#live", "mismatch"))

	run(t, ctx, "a key is found", chromedp.SendKeys("#lookup [name=key]", "order-1"),
		chromedp.SendKeys("#lookup [name=key]", kb.Enter), shows("#k-state", "completed"), shows("#k-record", "order-1"),
		shows("#k-record", "Content-Type: application/json"), lacks("#k-record", "ch_7"), shows("#k-attempts", "another body"))
	run(t, ctx, "its body is shown when it is asked for", click("#show-body"), shows("#k-record", "<b>ch_7</b>"), picture(t, "key"))
	run(t, ctx, "back", chromedp.NavigateBack(), chromedp.WaitVisible("#overview"))
	run(t, ctx, "one that is not there is not", write("#lookup [name=key]", "nobody"),
		chromedp.SendKeys("#lookup [name=key]", kb.Enter), shows("#found", "no record"))

	// Thinking better of it changes nothing.
	run(t, ctx, "cancelled", mouse(`button[aria-label="It was not executed held-1"]`, "#ask[open]"), shows("#ask-text", "will be executed"),
		picture(t, "dialog"), chromedp.SendKeys("#ask", kb.Escape), shows("#unknown", "held-1"))
	run(t, ctx, "freed", click(`button[aria-label="It was not executed held-1"]`), click("#ask-yes"),
		lacks("#unknown", "held-1"))
	if status := ask("/pay", "held-1", "x"); status != 201 {
		t.Errorf("the freed key: %d, want 201", status)
	}
	run(t, ctx, "completed", click(`button[aria-label="It was executed held-2"]`),
		write("#ask [name=status]", "202"), chromedp.SendKeys("#ask [name=body]", "by hand, €"), click("#ask-yes"),
		lacks("#unknown", "held-2"))
	if status := ask("/cut", "held-2", "x"); status != 202 {
		t.Errorf("the completed key: %d, want 202", status)
	}
	run(t, ctx, "the settings that differ", shows("#settings", "on_ambiguous: hold"), lacks("#settings", "lock_ttl"))
	run(t, ctx, "all settings", click("#all-settings"), shows("#settings", "lock_ttl"), click("#all-settings"), lacks("#settings", "lock_ttl"))
	run(t, ctx, "dark", emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}}),
		picture(t, "dark"))
	var background string
	run(t, ctx, "dark is dark", chromedp.Evaluate("getComputedStyle(document.body).backgroundColor", &background))
	if background != "rgb(22, 24, 26)" {
		t.Errorf("the background is %s", background)
	}
}

// Everything can be reached and done with the keyboard alone.
func TestPageByKeyboard(t *testing.T) {
	t.Parallel()
	a, ask := served(t)
	ctx := browser(t)
	run(t, ctx, "the page comes up", chromedp.Navigate(a.AdminURL()+"/"), shows("#unknown", "held-1"), shows("#state", "Ready"))
	focused := func() (label string) {
		run(t, ctx, "what has the focus", chromedp.Evaluate(
			"(document.activeElement.getAttribute('aria-label') || document.activeElement.id || document.activeElement.textContent).trim()", &label))
		return label
	}
	reached := map[string]bool{}
	for range 60 {
		run(t, ctx, "tab", chromedp.KeyEvent(kb.Tab))
		label := focused()
		reached[label] = true
		if label == "It was not executed held-1" {
			break
		}
	}
	if !reached["Skip to the content"] || !reached["It was not executed held-1"] {
		t.Fatalf("by tab: %v", reached)
	}
	run(t, ctx, "the dialog", chromedp.KeyEvent(kb.Enter), shows("#ask-text", "will be executed"))
	if label := focused(); label != "Cancel" {
		t.Errorf("the dialog's focus is on %q, want the harmless one", label)
	}
	run(t, ctx, "done", chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter), lacks("#unknown", "held-1"))
	if status := ask("/pay", "held-1", "x"); status != 201 {
		t.Errorf("the freed key: %d, want 201", status)
	}
}

// What is shown of a key changes under the mouse and under the focus: its age, and the keys around it. Its buttons stay.
func TestPageKeepsItsButtons(t *testing.T) {
	t.Parallel()
	a, ask := served(t)
	ctx := browser(t)
	const button, age = `button[aria-label="It was not executed held-2"]`, `document.querySelector("#unknown tbody tr:nth-child(2) td:nth-child(3)").textContent`
	run(t, ctx, "the page comes up", chromedp.Navigate(a.AdminURL()+"/"), shows("#unknown", "held-2"), shows("#state", "Ready"))
	run(t, ctx, "the button has the focus", chromedp.Evaluate(fmt.Sprintf("window.pressed = document.querySelector(%q); window.age = %s; pressed.focus()", button, age), nil))
	ask("/cut", "held-3", "x")
	run(t, ctx, "another key comes, and the age changes", shows("#unknown", "held-3"), polled(age+" !== window.age"))
	var kept, focused bool
	run(t, ctx, "the button", chromedp.Evaluate(fmt.Sprintf("document.querySelector(%q) === window.pressed", button), &kept),
		chromedp.Evaluate("document.activeElement === window.pressed", &focused))
	if !kept || !focused {
		t.Errorf("the button is the same: %v, and has the focus: %v", kept, focused)
	}
	run(t, ctx, "the key above goes", click(`button[aria-label="It was not executed held-1"]`), click("#ask-yes"), lacks("#unknown", "held-1"),
		chromedp.Evaluate(fmt.Sprintf("document.querySelector(%q) === window.pressed", button), &kept))
	if !kept {
		t.Error("the button is another one once the key above has gone")
	}
	run(t, ctx, "and its act is about its own key", click(button), shows("#ask-title", "held-2"), click("#ask-yes"), lacks("#unknown", "held-2"), shows("#unknown", "held-3"))
}

// With a token the page asks for it, and tells when it is wrong by asking again.
func TestPageWithToken(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("0123456789abcdef"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, _ := served(t, func(c *config.Config) { c.AdminTokenFile = file })
	ctx := browser(t)
	run(t, ctx, "asked", chromedp.Navigate(a.AdminURL()+"/"), chromedp.WaitVisible("#login[open]"),
		chromedp.SendKeys("#login [name=token]", "wrong"+kb.Enter))
	run(t, ctx, "asked again", chromedp.WaitVisible("#login[open]"), write("#login [name=token]", ""),
		chromedp.SendKeys("#login [name=token]", "0123456789abcdef"+kb.Enter), shows("#state", "Ready"), shows("#unknown", "held-1"))
}
