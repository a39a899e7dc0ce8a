package main

import (
	"bufio"
	"bytes"
	"strings"
	"testing"
)

// TestConversation: what Redis says to SCAN and STRLEN, and what it is not to say.
func TestConversation(t *testing.T) {
	t.Parallel()
	said := func(text string) (conversation, *bytes.Buffer) {
		asked := new(bytes.Buffer)
		return conversation{asked, bufio.NewReader(strings.NewReader(text))}, asked
	}
	c, asked := said("*2\r\n$2\r\n17\r\n*2\r\n$3\r\na\r\n\r\n$1\r\nb\r\n")
	keys, next, err := c.scan("0")
	if err != nil || next != "17" || len(keys) != 2 || keys[0] != "a\r\n" || keys[1] != "b" {
		t.Errorf("%q, then %q: %v", keys, next, err)
	}
	if want := "*4\r\n$4\r\nSCAN\r\n$1\r\n0\r\n$5\r\nCOUNT\r\n$4\r\n1000\r\n"; asked.String() != want {
		t.Errorf("it was asked %q", asked)
	}
	c, _ = said(":5\r\n-WRONGTYPE of a hash\r\n:7\r\n")
	if sum, err := c.lengths([]string{"a", "b", "c"}); err != nil || sum != 12 {
		t.Errorf("%v bytes: %v", sum, err)
	}
	for _, bad := range []string{"", "-NOAUTH\r\n", "*2\r\n:1\r\n"} {
		c, _ = said(bad)
		if _, _, err := c.scan("0"); err == nil {
			t.Errorf("%q was taken for an answer", bad)
		}
	}
}
