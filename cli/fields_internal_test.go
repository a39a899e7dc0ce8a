package cli

import (
	"slices"
	"testing"
)

func TestFields(t *testing.T) {
	t.Parallel()
	var got fields
	for _, text := range []string{"Content-Type: text/plain", "Vary: A, B", "X-A=b:c", "X-Empty:", " X-B : 1", "Vary: C"} {
		if err := got.Set(text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	var lines []string
	for _, f := range got {
		lines = append(lines, f.Name+"|"+f.Value)
	}
	if want := []string{"Content-Type|text/plain", "Vary|A, B", "X-A|b:c", "X-Empty|", "X-B|1", "Vary|C"}; !slices.Equal(lines, want) {
		t.Errorf("got %q, want %q", lines, want)
	}
	for _, text := range []string{"", "secret", ": secret", "=secret"} {
		if err := got.Set(text); err == nil || err.Error() != "want 'Name: value'" {
			t.Errorf("%q: %v", text, err)
		}
	}
}
