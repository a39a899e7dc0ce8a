package admin_test

import (
	"net/http"
	"testing"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
)

// What a call cannot heed is refused, rather than passed over: who gave it meant something by it.
func TestChangesAskForNothingElse(t *testing.T) {
	t.Parallel()
	o := newOperator(t, storetest.NewMemory())
	_, running := o.begin(key(t, "running"))
	defer running.Finish(idem.Answered, &idem.Response{Status: 200})
	_, held := o.begin(key(t, "held"), func(p *idem.Policy) { p.OnAmbiguous = idem.AmbiguousHold })
	held.Finish(idem.MayHaveExecuted, nil)
	for _, asked := range []struct{ path, body string }{
		{"/keys/purge", `{"key":"running","confirm":true,"owner":"00000000"}`},
		{"/keys/purge", `{"key":"running","confirm":true,"action":"retry"}`},
		{"/keys/purge", `{"key":"running","confirm":true,"status":200}`},
		{"/keys/release", `{"key":"running","confirm":true,"action":"retry"}`},
		{"/keys/release", `{"key":"running","confirm":true,"header":{"A":"b"}}`},
		{"/keys/release", `{"key":"running","confirm":true,"body":"eA=="}`},
		{"/keys/purge", `{"key":"running","confirm":true}{"key":"held"}`},
		{"/keys/release", `{"key":"running","confirm":true} x`},
		{"/keys/resolve", `{"key":"held","action":"retry","confirm":true}]`},
		{"/keys/resolve", `{"key":"held","action":"retry","confirm":true}` + "\n" + `{"key":"other","action":"retry","confirm":true}`},
	} {
		if status, text := o.ask(http.MethodPost, asked.path, asked.body); status != http.StatusBadRequest {
			t.Errorf("%s of %s: %d %s, want 400", asked.path, asked.body, status, text)
		}
	}
	for name, want := range map[string]idem.Verdict{"running": idem.VerdictInProgress, "held": idem.VerdictUnknown} {
		if out, _ := o.begin(key(t, name)); out.Kind != want {
			t.Errorf("afterwards %s is %v, want %v", name, out.Kind, want)
		}
	}
	if status, text := o.ask(http.MethodPost, "/keys/purge", `{"key":"held","confirm":true}`+"\r\n "); status != http.StatusOK {
		t.Errorf("a line's end behind it: %d %s", status, text)
	}
}
