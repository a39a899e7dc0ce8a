package page_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/app"
	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// proxyOf is a proxy until stop is called, or the test ends.
func proxyOf(t *testing.T, c *config.Config) (a *app.App, stop func()) {
	t.Helper()
	a, err := app.New(*c, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	running, cancel := context.WithCancel(context.Background())
	done, stopped := make(chan error, 1), false
	go func() { done <- a.Run(running) }()
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return a, stop
}

// answering is a backend on a listener.
func answering(ln net.Listener) *http.Server {
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })}
	go func() { _ = s.Serve(ln) }()
	return s
}

func listening(t *testing.T, addr string) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func emptyConfig(backend net.Listener) config.Config {
	c := config.Default()
	c.Listen, c.Admin, c.Backends = []string{"127.0.0.1:0"}, "127.0.0.1:0", []string{"http://" + backend.Addr().String()}
	return c
}

// widths runs a test at the width of a phone and of a desk.
func widths(t *testing.T, f func(t *testing.T, width int64, sized chromedp.Action)) {
	t.Helper()
	for _, width := range []int64{390, 1280} {
		t.Run(fmt.Sprint(width), func(t *testing.T) {
			t.Parallel()
			f(t, width, emulation.SetDeviceMetricsOverride(width, 900, 1, width < 500))
		})
	}
}

// The banner says what a balancer would be told, and why: never that all is well while the
// backend cannot be reached.
func TestReadinessIsLostAndRegained(t *testing.T) {
	t.Parallel()
	widths(t, func(t *testing.T, width int64, sized chromedp.Action) {
		ln := listening(t, "127.0.0.1:0")
		backend := answering(ln)
		c := emptyConfig(ln)
		c.Store = "embedded:" + t.TempDir()
		a, _ := proxyOf(t, &c)
		ctx := browser(t)
		run(t, ctx, "ready", sized, chromedp.Navigate(a.AdminURL()+"/"), shows("#state", "Ready"), titled("IdemProxy"),
			chromedp.WaitVisible("#banner.good"))
		_ = backend.Close()
		run(t, ctx, "lost", shows("#state", "Not ready"), shows("#reasons", "backend"), shows("#reasons", "refused"), titled("not ready: IdemProxy"),
			chromedp.WaitVisible("#banner.bad"), picture(t, fmt.Sprintf("not-ready-%d", width)))
		nothingCutOff(t, ctx, "the reason", width)
		backend = answering(listening(t, ln.Addr().String()))
		t.Cleanup(func() { _ = backend.Close() })
		run(t, ctx, "regained", shows("#state", "Ready"), titled("IdemProxy"), chromedp.WaitVisible("#banner.good"), lacks("#reasons", "refused"))
	})
}

// A store that is lost shows as what it means for requests, and since when; that it came
// back empty is said, too. What is a secret is not.
func TestStoreIsLostAndRegained(t *testing.T) {
	t.Parallel()
	widths(t, func(t *testing.T, width int64, sized chromedp.Action) {
		r := redistest.Start(t, "--appendonly", "no") // what is killed comes back empty
		ln := listening(t, "127.0.0.1:0")
		backend := answering(ln)
		t.Cleanup(func() { _ = backend.Close() })
		c := emptyConfig(ln)
		c.Store = r.URL()
		c.JWKS = "http://somebody:hunter2@" + ln.Addr().String() + "/keys"
		a, _ := proxyOf(t, &c)
		ctx := browser(t)
		run(t, ctx, "ready", sized, chromedp.Navigate(a.AdminURL()+"/"), shows("#state", "Ready"), chromedp.WaitVisible("#banner.good"),
			shows("#settings", "jwks"), lacks("#settings", "hunter2"))
		r.Kill()
		run(t, ctx, "lost", shows("#state", "Degraded"), shows("#reasons", "requests with keys are refused"), shows("#reasons", "connection refused"),
			titled("degraded: IdemProxy"), chromedp.WaitVisible("#banner.bad"))
		if status := postTo(t, a.URL()+"/pay", "order-1"); status < 500 {
			t.Errorf("without a store: %d", status)
		}
		run(t, ctx, "what failed", shows("#reasons", "lost since"), shows("#reasons", "store-failed: 1 in the last minute"),
			shows("#c-requests ul", "store-failed"), shows("#c-store ul", "the store did not answer"),
			picture(t, fmt.Sprintf("store-lost-%d", width)))
		nothingCutOff(t, ctx, "the reasons", width)
		run(t, ctx, "which", click(`#reasons button[data-leads="store-failed"]`),
			chromedp.Poll(`document.querySelector("#filters [name=outcome]").value === "store-failed"`, nil), shows("#live", "store-failed"))
		run(t, ctx, "what became of its key is not known, and not said to be", click("#live a"), shows("#k-state", "not known"),
			shows("#k-can", "connection refused"), lacks("#k-can", "executed"), chromedp.NavigateBack(), chromedp.WaitVisible("#overview"))
		r.Restart()
		run(t, ctx, "regained", shows("#state", "Ready"), lacks("#reasons", "connection refused"), titled("store_emptied: IdemProxy"),
			shows("#reasons", "retries of what was in it execute again"), chromedp.WaitVisible("#banner.warn"))
	})
}

// Once the proxy is gone the page says so, and that its numbers are old. Another process in
// its place is shown as what it is, without the history of the one before.
func TestProxyIsGone(t *testing.T) {
	t.Parallel()
	widths(t, func(t *testing.T, width int64, sized chromedp.Action) {
		ln := listening(t, "127.0.0.1:0")
		backend := answering(ln)
		t.Cleanup(func() { _ = backend.Close() })
		c := emptyConfig(ln)
		c.Store = "embedded:" + t.TempDir()
		a, stop := proxyOf(t, &c)
		admin, err := url.Parse(a.AdminURL())
		if err != nil {
			t.Fatal(err)
		}
		ctx := browser(t)
		var started, again float64
		run(t, ctx, "ready", sized, chromedp.Navigate(a.AdminURL()+"/"), shows("#state", "Ready"),
			chromedp.Poll("past.samples.length > 0", nil), chromedp.Evaluate("past.started", &started))
		stop()
		run(t, ctx, "gone", shows("#state", "Not reachable"), titled("not reachable: IdemProxy"), chromedp.WaitVisible("#banner.bad"),
			shows("#reasons", "no connection"), shows("#reach", "old, of before"), shows("#history-error", "Not up to date"),
			chromedp.WaitVisible("body.stale"), picture(t, fmt.Sprintf("gone-%d", width)))
		nothingCutOff(t, ctx, "the reason", width)
		c.Admin = admin.Host
		proxyOf(t, &c)
		run(t, ctx, "another", shows("#state", "Ready"), chromedp.WaitVisible("#banner.good"), lacks("#reach", "old"),
			chromedp.Poll(fmt.Sprintf("past.started !== %.0f && past.samples.every((s) => s.at > past.started)", started), nil),
			chromedp.Evaluate("past.started", &again))
		if again <= started {
			t.Errorf("begun at %.0f, and then at %.0f", started, again)
		}
	})
}

// A reload that failed is on the banner with its reason, though all else is well, until a reload works.
func TestAWrongReloadIsOnTheBanner(t *testing.T) {
	t.Parallel()
	var wrong atomic.Bool
	var right config.Config
	a, _ := served(t, func(c *config.Config) { right = *c })
	file := filepath.Join(t.TempDir(), "idemproxy.yaml")
	follow, end := context.WithCancel(context.Background())
	ended := make(chan struct{})
	load := func() (config.Config, error) {
		if wrong.Load() {
			return config.Config{}, errors.New("idemproxy.yaml:5: max_in_flight: <b>many</b>")
		}
		return right, nil
	}
	go func() { defer close(ended); a.Follow(follow, load, file, nil) }()
	t.Cleanup(func() { end(); <-ended })
	change := func(text string) chromedp.Action {
		return chromedp.ActionFunc(func(context.Context) error { return os.WriteFile(file, []byte(text), 0o600) })
	}
	ctx := browser(t)
	run(t, ctx, "ready", chromedp.Navigate(a.AdminURL()+"/"), shows("#state", "Ready"), titled("(2) IdemProxy"))
	wrong.Store(true)
	run(t, ctx, "wrong", change("one"), shows("#reasons", "reload_failed"), shows("#reasons", "max_in_flight: <b>many</b>"),
		chromedp.WaitVisible("#banner.warn"), titled("(2) reload_failed: IdemProxy"), picture(t, "wrong-reload"))
	wrong.Store(false)
	run(t, ctx, "right", change("two"), lacks("#reasons", "reload_failed"), titled("(2) IdemProxy"))
}
