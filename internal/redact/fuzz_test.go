package redact_test

import (
	"fmt"
	"io/fs"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/internal/redact"
)

const marker = "hunter2"

// FuzzRedact: whatever stands around a secret, it is not shown if it stands before
// an @, or after a ? or #; nor is it by an error about the URL.
func FuzzRedact(f *testing.F) {
	for _, seed := range [][2]string{
		{"redis://user:", "@host:6379/0"},
		{"redis://", "@host"},
		{"redis://user:12/", "@host/0"},
		{"redis://user:12?", "@host/0"},
		{"redis://user:12#", "@host/0"},
		{"redis://user:a@", "@host"},
		{"redis://user:%40", "%zz@host"},
		{"redis://host?password=", "&db=1"},
		{"other://user:", "\xd1/@host"},
		{"redis://host?password=a&", ""},
		{"redis://host?addr=user:", "@host2"},
		{"redis://host?db=", ""},
		{"redis:/", "@host"},
		{"redis:", "@host"},
		{"user:", "@host"},
		{"//", "@host"},
		{"unix://user:", "@/run/redis.sock"},
		{"unix:/", "@/run/redis.sock"},
		{"http://host,http://u:1,", "@b"},
		{"http://host?a=b,", ",c"},
		{"http://host/x#", ""},
		{"/", "@host"},
		{"", "@host"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		raw := before + marker + after
		if !isSecret(before, after) {
			return
		}
		checkShown(t, raw)
		if first, last := ownURL(before, after); isSecret(first, last) {
			if shown := strings.Join(redact.URLs(strings.Split(raw, ",")), ","); strings.Contains(shown, marker) {
				t.Errorf("URLs shows the secret of %q: %q", raw, shown)
			}
		}
		_, err := url.Parse(raw)
		for _, err := range []error{
			err, fmt.Errorf("using %s", raw), fmt.Errorf("using %q", raw), &url.Error{Op: "Get", URL: raw, Err: fs.ErrInvalid},
		} {
			if err == nil {
				continue
			}
			if text := redact.Error(err, raw).Error(); strings.Contains(text, marker) {
				t.Errorf("%q: an error shows the secret: %s", raw, text)
			}
		}
		if _, err := redact.Parse(raw); err != nil && strings.Contains(err.Error(), marker) {
			t.Errorf("%q: %v", raw, err)
		}
	})
}

func checkShown(t *testing.T, raw string) {
	t.Helper()
	for name, shown := range map[string]string{"URL": redact.URL(raw), "Place": redact.Place(raw)} {
		if strings.Contains(shown, marker) {
			t.Errorf("%s shows the secret of %q: %q", name, raw, shown)
		}
	}
	if strings.Contains(raw, "://") && strings.Contains(redact.Text(raw), marker) {
		t.Errorf("Text shows the secret of %q", raw)
	}
}

// ownURL is what stands around the marker in its own URL, of a list with commas: a
// further one starts where there is a scheme again.
func ownURL(before, after string) (first, last string) {
	hasScheme := func(s string) bool {
		scheme, _, has := strings.Cut(strings.ToLower(s), ":")
		return has && slices.Contains([]string{"http", "https", "unix", "redis", "rediss", "valkey", "valkeys", "embedded"}, scheme)
	}
	for i, c := range before {
		if c == ',' && hasScheme(before[i+1:]) {
			first = before[i+1:]
		}
	}
	if first == "" {
		first = before
	}
	for i, c := range after {
		if c == ',' && hasScheme(after[i+1:]) {
			return first, after[:i]
		}
	}
	return first, after
}

// isSecret says whether the marker between the two is one: names of directories
// and sockets are none, nor is what Redis's URLs may have in their query.
func isSecret(before, after string) bool {
	if strings.Contains(before+after, marker) || strings.HasPrefix(before, "embedded:") {
		return false
	}
	for _, name := range []string{"addr=", "master_set=", "client_name="} {
		if strings.Contains(before, name) && !strings.Contains(after, "@") {
			return false
		}
	}
	segments, _, _ := strings.Cut(after, "@")
	lower := strings.ToLower(before) + marker + segments
	if path, ok := strings.CutPrefix(strings.TrimPrefix(lower, "unix:"), "///"); ok {
		lower = "/" + path
	} else {
		lower = strings.TrimPrefix(lower, "unix:")
	}
	inFile := strings.HasPrefix(lower, "/") && strings.Count(lower, "/") > 1 && !strings.HasPrefix(lower, "//") &&
		!strings.ContainsAny(before, "?#")
	return !inFile && (strings.Contains(after, "@") || strings.ContainsAny(before, "?#"))
}
