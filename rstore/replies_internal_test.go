package rstore

import (
	"bufio"
	"maps"
	"strings"
	"testing"
	"time"
)

// What is left out has the value that Config says; what is given keeps its own.
func TestWhatIsLeftOutHasItsDefault(t *testing.T) {
	t.Parallel()
	c := Config{URL: "redis://127.0.0.1:1"}
	if _, err := c.option(); err != nil {
		t.Fatal(err)
	}
	if c.Timeout != 2*time.Second || c.Journal != time.Minute || c.JournalBytes != 64<<20 || c.CacheBytes != 64<<20 {
		t.Errorf("%v, %v, %d, %d", c.Timeout, c.Journal, c.JournalBytes, c.CacheBytes)
	}
	c = Config{URL: "redis://127.0.0.1:1", Timeout: 1, Journal: -1, JournalBytes: 1, CacheBytes: 1}
	if _, err := c.option(); err != nil {
		t.Fatal(err)
	}
	if c.Timeout != 1 || c.Journal != -1 || c.JournalBytes != 1 || c.CacheBytes != 1 {
		t.Errorf("what is given: %v, %v, %d, %d", c.Timeout, c.Journal, c.JournalBytes, c.CacheBytes)
	}
}

// Each reply that Redis may give is read, the shortest one too; a line that is none is an error.
func TestRepliesOfAWire(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]any{
		"+\r\n": "", "+OK\r\n": "OK", ":0\r\n": int64(0), ":-7\r\n": int64(-7), "$0\r\n\r\n": "", "$2\r\nab\r\n": "ab",
		"$-1\r\n": nothing{}, "*-1\r\n": nothing{}, "-\r\n": refusal(""), "-ERR no\r\n": refusal("ERR no"),
	} {
		w := wire{r: bufio.NewReader(strings.NewReader(text))}
		if got, err := w.read(maxDepth); got != want || err != nil {
			t.Errorf("%q: %#v, %v, want %#v", text, got, err, want)
		}
	}
	for _, text := range []string{"\r\n", "\n", "+\n", "+OK\n", ":\r\n", "$\r\n", "$-2\r\n", ":x\r\n", "?1\r\n", "+OK", ""} {
		w := wire{r: bufio.NewReader(strings.NewReader(text))}
		if got, err := w.read(maxDepth); err == nil {
			t.Errorf("%q is taken for %#v", text, got)
		}
	}
}

// A reply of names and values may have any length and anything in it: what is no name with a
// value is left out.
func TestPairsOfAReply(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		reply any
		want  map[string]string
	}{
		{[]any{"a", "1", "b", "2"}, map[string]string{"a": "1", "b": "2"}},
		{[]any{"a", "1", "b"}, map[string]string{"a": "1"}},
		{[]any{"a"}, map[string]string{}},
		{[]any{}, map[string]string{}},
		{[]any{"a", int64(1), nothing{}, "2", "c", "3"}, map[string]string{"c": "3"}},
		{"a", map[string]string{}},
		{nil, map[string]string{}},
	} {
		if got := pairs(c.reply); !maps.Equal(got, c.want) {
			t.Errorf("%v: %v, want %v", c.reply, got, c.want)
		}
	}
}
