package cli_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/app"
	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// What clients do while they are observed is what advise goes by.
func TestAdvise(t *testing.T) {
	t.Parallel()
	b := backendtest.Start(t, backendtest.OK)
	a, _ := run(t, b.URL(), func(c *config.Config) { c.Observe = true })
	at := strings.TrimPrefix(a.AdminURL(), "http://")
	if code, out := command(t, "advise", "--admin", at); code != 0 || !strings.Contains(out, "Nothing was observed") {
		t.Errorf("%d %s", code, out)
	}
	post := func(key, path, token, body string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, a.URL()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-Api-Key", "alice")
		req.Header.Set("Authorization", token)
		if key != "" {
			req.Header.Set("Idempotency-Key", key)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil || resp.Body.Close() != nil || resp.StatusCode != 200 {
			t.Fatalf("%v, %v", resp, err)
		}
	}
	post("", "/pay", "t1", `{}`)
	post("a", "/pay", "t1", `{"a":1,"b":2}`)
	post("a", "/pay", "t1", `{"a":1,"b":2}`)   // a retry
	post("a", "/pay", "t2", `{"a":1,"b":2}`)   // with a token that was renewed
	post("a", "/pay", "t1", `{"b": 2,"a": 1}`) // spelled anew
	post("a", "/pay?try=2", "t1", `{"a":1,"b":2}`)
	post("a", "/pay", "t1", `{"a":1,"b":3}`) // another operation

	code, text := command(t, "advise", "--admin", at, "--json")
	var advice app.Advice
	if err := json.Unmarshal([]byte(text), &advice); err != nil || code != 0 || len(advice.Routes) != 1 {
		t.Fatalf("%d %s: %v", code, text, err)
	}
	seen := advice.Routes[0].Seen
	for what, is := range map[string]bool{
		"keyless": seen.Keyless == 1, "execute": seen.Would["execute"] == 1, "replay": seen.Would["replay"] == 1,
		"mismatch": seen.Would["mismatch"] == 4, "caller": seen.Differs["caller"] == 1, "body": seen.Differs["body"] == 2,
		"target": seen.Differs["target"] == 1, "json": seen.Spared["json"] == 1, "path": seen.Spared["path"] == 1,
		"renewed": seen.Callers["Authorization"].Changed == 1, "same": seen.Callers["X-Api-Key"].Same == 2,
		"retried": seen.Retried.Count == 2, "executed": seen.Executed.Count == 1,
	} {
		if !is {
			t.Errorf("%s: %s", what, text)
		}
	}
	_, out := command(t, "advise", "--admin", at)
	for _, want := range []string{
		"route default (observe now)", "6 requests with a key, 1 without", "propose [X-Api-Key], now [Authorization]",
		"propose [method, json, path], now [method, target, body]", "1 are left", "keep 30s", "1 requests that may change something had no key",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
}
