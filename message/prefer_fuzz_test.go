package message

import (
	"strings"
	"testing"
)

// FuzzPrefer: no field value panics, and what it says is a sensible wait.
func FuzzPrefer(f *testing.F) {
	for _, seed := range []string{"wait=10", `respond-async, wait="5";x`, `foo="a, wait=9\"", wait=`, "wait", ",;=\"\\"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		wait, found := PreferredWait([]byte(value))
		if wait < 0 || !found && wait != 0 {
			t.Errorf("%q: %v, %v", value, wait, found)
		}
		if found && !strings.Contains(strings.ToLower(value), "wait") {
			t.Errorf("%q says nothing of wait", value)
		}
	})
}
