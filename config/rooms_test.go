package config_test

import (
	"strings"
	"testing"
)

// A segment that no path of the route has is found when the file is read, at its line.
func TestSegmentsThatKeysAreIn(t *testing.T) {
	t.Parallel()
	for yaml, want := range map[string]string{
		"routes:\n  - path: /orders/{order}/pay\n    key: [path:order]":   "",
		"routes:\n  - path: /orders/{order}/pay\n    key: [path:payment]": "f.yaml:3: key: path:payment: the route's path has no segment {payment}",
		"key: [path:order]": "f.yaml:1: key: path:order: the route's path has no segment {order}",
		"routes:\n  - path: /orders/{order}/pay\n    key: [path:2, json:/id]": "",
	} {
		c, err := load(t, yaml, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Proxy()
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasSuffix(err.Error(), want)) {
			t.Errorf("%s: %v, want %s", yaml, err, want)
		}
	}
}
