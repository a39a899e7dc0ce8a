package admin_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
)

// Who asks for a change that the key's state does not allow is told the state, and what can be done.
func TestARefusalSaysTheState(t *testing.T) {
	t.Parallel()
	o := newOperator(t, storetest.NewMemory())
	hold := func(p *idem.Policy) { p.OnAmbiguous = idem.AmbiguousHold }
	_, done := o.begin(key(t, "done"))
	done.Finish(idem.Answered, &idem.Response{Status: 200})
	_, held := o.begin(key(t, "held"), hold)
	held.Finish(idem.MayHaveExecuted, nil)
	_, running := o.begin(key(t, "running"), hold)
	defer running.Finish(idem.NothingSent, nil)
	_, brief := o.begin(key(t, "expired"), func(p *idem.Policy) { p.Retention, p.Remember = time.Millisecond, time.Hour })
	brief.Finish(idem.Answered, &idem.Response{Status: 200})
	for text := ""; !strings.Contains(text, `"state":"expired"`) && t.Context().Err() == nil; { // until the retention is over
		_, text = o.ask(http.MethodGet, "/keys?key=expired", "")
	}
	const resolve, release = "only a key whose outcome is unknown can be resolved", "only a key that is in progress can be released"
	for _, c := range []struct{ path, key, owner, want string }{
		{"resolve", "done", "", resolve + ". This key is completed: retries get its response. To forget the key, purge it"},
		{"resolve", "running", "", resolve + ". This key is in progress: its request is under way. Wait until it has ended, or release the key"},
		{"resolve", "running", fmt.Sprintf("%x", running.Owner()), resolve + ". This key is in progress"},
		{"resolve", "expired", "", resolve + ". This key is expired: it was executed, and retries get 410"},
		{"resolve", "never", "", resolve + ": there is no record of this key in this scope, so the next request with it is executed"},
		{"release", "done", "", release + ". This key is completed"},
		{"release", "held", "", release + ". This key is unknown: it may have been executed. Find out whether it was, and resolve the key"},
	} {
		body := fmt.Sprintf(`{"key":%q,"owner":%q,"confirm":true}`, c.key, c.owner)
		if c.path == "resolve" {
			body = strings.Replace(body, "{", `{"action":"retry",`, 1)
		}
		if status, text := o.ask(http.MethodPost, "/keys/"+c.path, body); status != http.StatusConflict || !strings.Contains(text, c.want) {
			t.Errorf("%s of %s: %d %s, want 409 %s", c.path, c.key, status, text, c.want)
		}
	}
}
