package config_test

import (
	"os"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/config"
)

// Each preset can be used, at large and by a route, has no setting's default for a value,
// and gives way to what is set besides; each is in its document.
func TestPresets(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/presets.md")
	if err != nil {
		t.Fatal(err)
	}
	plain := config.Default()
	for name, values := range config.Presets() {
		large, err := load(t, "preset: "+name, nil)
		if err != nil {
			t.Fatal(err)
		}
		route, err := load(t, "routes:\n  - path: /a\n    preset: "+name, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range []*config.Config{&large, &route} {
			if _, err := c.Proxy(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if doubts := c.Doubts(); len(doubts) > 0 {
				t.Errorf("%s: %v", name, doubts)
			}
		}
		ofRoute := config.Config{Rules: route.Routes[0].Rules}
		for setting := range values {
			was, is := plain.Flags().Lookup(setting).Value.String(), large.Flags().Lookup(setting).Value.String()
			if was == is && setting != "retention" { // which settings at large may change
				t.Errorf("%s: %s is %s anyway", name, setting, is)
			}
			if got := ofRoute.Flags().Lookup(setting).Value.String(); got != is {
				t.Errorf("%s: %s of a route is %s, at large %s", name, setting, got, is)
			}
		}
		if !strings.Contains(string(page), "\n## "+name+"\n") {
			t.Errorf("docs/presets.md does not have %s", name)
		}
	}
	own, err := load(t, "retention: 1h\nmismatch_status: 409\nroutes:\n  - path: /a\n    preset: stripe\n    mismatch_status: 422", nil)
	if err != nil {
		t.Fatal(err)
	}
	if r := own.Routes[0]; r.MismatchStatus != 422 || r.Retention.Hours() != 24 || own.Retention.Hours() != 1 {
		t.Errorf("a route with settings of its own: %d, %v; at large %v", r.MismatchStatus, r.Retention, own.Retention)
	}
	if _, err := load(t, "preset: strip", nil); err == nil || !strings.Contains(err.Error(), "standard-webhooks, stripe") {
		t.Errorf("%v", err)
	}
}
