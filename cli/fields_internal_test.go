package cli

import (
	"maps"
	"testing"
)

func TestFields(t *testing.T) {
	t.Parallel()
	var got fields
	for _, text := range []string{"Content-Type: text/plain", "Vary: A, B", "X-A=b:c", "X-Empty:", " X-B : 1"} {
		if err := got.Set(text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	want := fields{"Content-Type": "text/plain", "Vary": "A, B", "X-A": "b:c", "X-Empty": "", "X-B": "1"}
	if !maps.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, text := range []string{"", "secret", ": secret", "=secret"} {
		if err := got.Set(text); err == nil || err.Error() != "want 'Name: value'" {
			t.Errorf("%q: %v", text, err)
		}
	}
}
