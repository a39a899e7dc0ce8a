package rstore

import (
	"bufio"
	"strings"
	"testing"
)

// FuzzReply: no bytes of a server panic, and what is read is nested no deeper than is allowed.
func FuzzReply(f *testing.F) {
	for _, seed := range []string{
		"+OK\r\n", "-ERR no\r\n", ":12\r\n", "$3\r\nabc\r\n", "$-1\r\n", "*2\r\n$1\r\na\r\n*1\r\n:1\r\n", "*-1\r\n", "$9999999999\r\n", "*1\r\n*1\r\n*1\r\n*1\r\n", "\r\n", "+\n",
	} {
		f.Add(seed)
	}
	var depth func(reply any) int
	depth = func(reply any) (deepest int) {
		items, is := reply.([]any)
		if !is {
			return 0
		}
		for _, item := range items {
			deepest = max(deepest, depth(item))
		}
		return deepest + 1
	}
	f.Fuzz(func(t *testing.T, text string) {
		w := &wire{r: bufio.NewReader(strings.NewReader(text))}
		reply, err := w.read(maxDepth)
		if err == nil && reply == nil {
			t.Errorf("%q: neither a reply nor an error", text)
		}
		if n := depth(reply); n > maxDepth {
			t.Errorf("%q: %d deep", text, n)
		}
		pairs(reply)
	})
}

// FuzzNews: no message of a Sentinel panics, and one is only about the set that is asked for.
func FuzzNews(f *testing.F) {
	f.Add("+switch-master", "set 10.0.0.1 6379 10.0.0.2 6379")
	f.Add("+sdown", "slave a 10.0.0.3 6379 @ set 10.0.0.1 6379")
	f.Add("-odown", "master set 10.0.0.1 6379")
	f.Add("", "slave a b c @ set d e")
	f.Fuzz(func(t *testing.T, channel, message string) {
		if _, about := parseNews("set", channel, message); about && !strings.Contains(message, "set") {
			t.Errorf("%q %q is about another set", channel, message)
		}
	})
}
