package rstore_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/idemproxy/idemproxy/rstore/fakeredis"
)

// What a store asks of who it connects to, in this order.
const (
	askPrimary = "SENTINEL GET-MASTER-ADDR-BY-NAME"
	askOthers  = "SENTINEL SENTINELS"
	askNews    = "PSUBSCRIBE"
	askHello   = "HELLO 2" // HELLO 3 is the client library's
	askInfo    = "INFO server replication"
	askEval    = "EVALSHA"
)

// unwillingServer is a Redis, or a Sentinel, that does not answer all as it should.
type unwillingServer struct {
	name     string
	troubles []trouble // at most one about each command counts
	server   *fakeredis.Server

	mu      sync.Mutex
	willing bool             // it has no trouble yet; guarded by mu
	asked   map[*trouble]int // guarded by mu
}

// trouble is what it answers instead.
type trouble struct {
	about   string
	refusal string // what of it is to be told; empty if it is none
	whole   bool   // the answer has an end
	skips   int    // so many times it answers as it should, first
	fakeredis.Saying
}

func (t trouble) String() string {
	after := map[fakeredis.After]string{fakeredis.GoesOn: "goes on", fakeredis.IsSilent: "is silent", fakeredis.HangsUp: "hangs up"}
	return fmt.Sprintf("to %s (but for the first %d) it says, after %v, %q, and then %s", t.about, t.skips, t.Late, t.Text, after[t.Then])
}

// drawTrouble makes one up. Its serial tells its refusal from others.
func drawTrouble(r *rand.Rand, about string, serial int) trouble {
	t := trouble{about: about, whole: true, Saying: fakeredis.Saying{
		Late: oneOf(r, 0, 0, time.Duration(r.IntN(1000))*time.Millisecond), Then: oneOf(r, fakeredis.GoesOn, fakeredis.IsSilent, fakeredis.HangsUp),
	}}
	switch {
	case r.IntN(3) > 0 || about == askEval:
		t.Text, t.refusal = drawRefusal(r, serial)
		if about == askEval { // after which the connection is the library's business
			t.Then = fakeredis.GoesOn
		}
	case about == askNews:
		t.Text, t.Then = oneOf(r, "+OK\r\n", "*0\r\n", ":1\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n"), fakeredis.HangsUp
	case r.IntN(2) == 0:
		t.Text = oneOf(r, "+OK\r\n", ":1\r\n", "$-1\r\n", "*0\r\n", "*-1\r\n", "$2\r\nOK\r\n", "*1\r\n$2\r\nOK\r\n")
	default:
		t.Text, t.whole = oneOf(r, "", "*2\r\n", "$4\r\nO", "-", "+OK"), false
		if t.Then == fakeredis.GoesOn {
			t.Then = fakeredis.IsSilent
		}
	}
	if about == askNews && r.IntN(4) == 0 { // of the channels, some are granted first
		t.Text = strings.Repeat("*3\r\n$10\r\npsubscribe\r\n$1\r\nx\r\n:1\r\n", 1+r.IntN(6)) + t.Text
	}
	return t
}

// drawRefusal is one as Redis or what stands before it says it, and what of it a user is to read.
func drawRefusal(r *rand.Rand, serial int) (text, tells string) {
	word, rest, _ := strings.Cut(oneOf(r, "NOAUTH Authentication required.", "NOPERM this user has no permissions to run this command",
		"NOPERM this user has no permissions to access one of the channels used as arguments", "DENIED Redis is running in protected mode",
		"ERR max number of clients reached", "WRONGPASS invalid username-password pair or user is disabled.", "LOADING Redis is loading the dataset in memory",
		"ERR unknown command, with args beginning with: `2` `AUTH` `default` `"+password+"`", "NOPROTO unsupported protocol version",
		"MASTERDOWN Link with MASTER is down", "IDONTKNOW No such master with that name"), " ")
	text = fmt.Sprintf("-%s (%d) %s\r\n", word, serial, rest)
	about, _, _ := strings.Cut(rest, " ")
	return text, fmt.Sprintf("(%d) %s", serial, strings.TrimSuffix(about, ","))
}

// about is the trouble with a command; nil for none.
func (s *unwillingServer) about(command string) *trouble {
	for i := range s.troubles {
		if s.troubles[i].about == command {
			return &s.troubles[i]
		}
	}
	return nil
}

// keepsFrom says whether a server of whom two things are asked at once, of which the second one may
// be refused, keeps the store from going on: for which refusal, and whether that is known only
// once the time is over.
func (s *unwillingServer) keepsFrom(first, second string) (refusal string, fails, silent bool) {
	one, two := s.about(first), s.about(second)
	switch {
	case one != nil && one.refusal != "":
		return one.refusal, true, false
	case one != nil:
		return "", true, one.Then == fakeredis.IsSilent || two != nil && two.refusal == "" && two.Then == fakeredis.IsSilent
	case two == nil || two.whole && (first == askPrimary || two.Then == fakeredis.GoesOn):
		return "", false, false
	}
	return "", true, two.Then == fakeredis.IsSilent
}

// skipped says whether a trouble does not begin yet.
func (s *unwillingServer) skipped(t *trouble) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked == nil {
		s.asked = map[*trouble]int{}
	}
	s.asked[t]++
	return s.asked[t] <= t.skips
}

// answer is what is said to a command; nil for what the Redis answers itself.
func (s *unwillingServer) answer(command []string) *fakeredis.Saying {
	text := strings.Join(command, " ")
	s.mu.Lock()
	willing := s.willing
	s.mu.Unlock()
	for i := range s.troubles {
		t := &s.troubles[i]
		switch {
		case willing || !strings.HasPrefix(text, t.about):
			continue
		case s.skipped(t):
			return nil
		}
		return &t.Saying
	}
	switch {
	case strings.HasPrefix(text, askPrimary):
		return &fakeredis.Saying{Text: "*2\r\n$10\r\nredis.test\r\n$4\r\n6379\r\n"}
	case strings.HasPrefix(text, askOthers):
		return &fakeredis.Saying{Text: "*0\r\n"}
	case strings.HasPrefix(text, askNews):
		return &fakeredis.Saying{Text: strings.Repeat("*3\r\n$10\r\npsubscribe\r\n$1\r\nx\r\n:1\r\n", len(command)-1)}
	}
	return nil
}
