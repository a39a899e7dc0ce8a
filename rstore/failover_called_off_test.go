package rstore_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// sayer is a Sentinel that says what a test wants, of the primary that it names.
type sayer struct {
	addr string

	mu      sync.Mutex
	names   *redistest.Server // guarded by mu; nil: it knows no primary
	asked   int               // how often it was asked for the primary; guarded by mu
	hearers []net.Conn        // guarded by mu
}

func newSayer(t *testing.T, primary *redistest.Server) *sayer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	s := &sayer{addr: l.Addr().String(), names: primary}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(conn)
		}
	}()
	return s
}

func (s *sayer) url() string { return "redis://" + s.addr + "/0?master_set=it" }

func (s *sayer) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	for r := bufio.NewReader(conn); ; {
		words, err := command(r)
		if err != nil {
			return
		}
		s.mu.Lock()
		answer := "-ERR unknown command\r\n"
		switch strings.ToUpper(words[0]) {
		case "PING":
			answer = array("pong", "")
		case "PSUBSCRIBE":
			answer = ""
			for i, pattern := range words[1:] {
				answer += fmt.Sprintf("*3\r\n$10\r\npsubscribe\r\n$%d\r\n%s\r\n:%d\r\n", len(pattern), pattern, i+1)
			}
			s.hearers = append(s.hearers, conn)
		case "SENTINEL":
			answer = "*0\r\n"
			if strings.EqualFold(words[1], "GET-MASTER-ADDR-BY-NAME") {
				s.asked++
				if answer = "*-1\r\n"; s.names != nil {
					host, port, _ := net.SplitHostPort(s.names.Addr)
					answer = array(host, port)
				}
			}
		}
		_, err = io.WriteString(conn, answer)
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// command reads one, as an array or as a line.
func command(r *bufio.Reader) (words []string, err error) {
	line, err := r.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "*") {
		return strings.Fields(line + " "), err
	}
	n, err := strconv.Atoi(strings.TrimSpace(line[1:]))
	for ; err == nil && n > 0; n-- {
		if _, err = r.ReadString('\n'); err == nil { // its length
			line, err = r.ReadString('\n')
			words = append(words, strings.TrimSuffix(line, "\r\n"))
		}
	}
	return words, err
}

func array(words ...string) string {
	text := fmt.Sprintf("*%d\r\n", len(words))
	for _, word := range words {
		text += fmt.Sprintf("$%d\r\n%s\r\n", len(word), word)
	}
	return text
}

// says tells all who listen.
func (s *sayer) says(t *testing.T, channel, message string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		s.mu.Lock()
		hearers := append([]net.Conn(nil), s.hearers...)
		for _, conn := range hearers {
			_, _ = io.WriteString(conn, array("pmessage", "*", channel, message))
		}
		s.mu.Unlock()
		if len(hearers) > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("nobody listens")
		}
	}
}

func (s *sayer) wasAsked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// spaced is an address as Sentinels write it.
func spaced(server *redistest.Server) string { return strings.Replace(server.Addr, ":", " ", 1) }

// A failover that begins and is called off holds requests up, and no longer than until
// then: the primary stays, they are served, and none of them is lost.
func TestAFailoverThatIsCalledOff(t *testing.T) {
	t.Parallel()
	for channel, message := range map[string]string{"-odown": "master it %s", "-failover-abort-not-elected": "master it %s"} {
		t.Run(channel, func(t *testing.T) {
			t.Parallel()
			primary := redistest.Start(t)
			sentinel := newSayer(t, primary)
			var log lines
			// Less than the time after which the store would go on by itself.
			s := open(t, rstore.Config{URL: sentinel.url(), Timeout: 4 * time.Second, Logger: zerolog.New(&log)})
			before := must(t, s, claim("before"))
			for round := range 2 { // also a second time
				sentinel.says(t, "+odown", "master it "+spaced(primary)+" #quorum 2/2")
				log.await(t, `"event":"store_failover"`)
				got := make(chan error, 1)
				go func() {
					out, err := s.Acquire(t.Context(), claim(fmt.Sprint("meanwhile", round)))
					if err == nil && out.Kind != idem.VerdictAcquired {
						err = fmt.Errorf("it is %v", out.Kind)
					}
					got <- err
				}()
				select {
				case err := <-got:
					t.Fatalf("it was answered during the failover: %v", err)
				case <-time.After(50 * time.Millisecond):
				}
				sentinel.says(t, channel, fmt.Sprintf(message, spaced(primary)))
				if err := <-got; err != nil {
					t.Errorf("what was asked meanwhile: %v", err)
				}
				log.clear()
			}
			if err := s.Complete(t.Context(), before.Lease(), &idem.Response{Status: 200}); err != nil {
				t.Errorf("what ran: %v", err)
			}
		})
	}
}

// A failover of which nothing more is heard ends by itself: the primary that there was is
// asked again. What is said of another's primary holds up nobody.
func TestAFailoverThatNothingComesOf(t *testing.T) {
	t.Parallel()
	primary := redistest.Start(t)
	sentinel := newSayer(t, primary)
	var log lines
	s := open(t, rstore.Config{URL: sentinel.url(), Timeout: 30 * time.Second, Logger: zerolog.New(&log)})
	must(t, s, claim("before"))
	sentinel.says(t, "+odown", "master other "+spaced(primary)+" #quorum 2/2")
	sentinel.says(t, "+odown", "master it 127.0.0.1 1 #quorum 2/2")
	must(t, s, claim("of others"))
	if log.count(`"event":"store_failover"`) != 0 {
		t.Error("another's failover was followed")
	}
	sentinel.says(t, "+odown", "master it "+spaced(primary)+" #quorum 2/2")
	log.await(t, `"event":"store_failover"`)
	must(t, s, claim("after"))
}

// Who waits for all replicas waits for as many after a failover that did not happen.
func TestAFailoverThatIsCalledOffForgetsNoReplica(t *testing.T) {
	t.Parallel()
	primary := redistest.Start(t)
	redistest.Replica(t, primary)
	second := redistest.Replica(t, primary)
	sentinel := newSayer(t, primary)
	var log lines
	s := open(t, rstore.Config{URL: sentinel.url(), WaitReplicas: rstore.AllReplicas, Logger: zerolog.New(&log)})
	must(t, s, claim("with both"))
	second.Kill()
	sentinel.says(t, "+odown", "master it "+spaced(primary)+" #quorum 2/2")
	log.await(t, `"event":"store_failover"`)
	sentinel.says(t, "-odown", "master it "+spaced(primary))
	if _, err := s.Acquire(t.Context(), claim("with one")); !errors.Is(err, idem.ErrUnavailable) || errors.Is(err, idem.ErrRefused) {
		t.Errorf("with one of two: %v, want it to be in doubt", err)
	}
}

// The next primary is used once the Sentinels have said which it is, also if they say so
// after the failover's begin, and go on to name the one before when they are asked. What
// the one before had acknowledged is on it.
func TestANextPrimaryThatIsToldLater(t *testing.T) {
	t.Parallel()
	first, second := redistest.Start(t), redistest.Start(t)
	sentinel := newSayer(t, first)
	var log lines
	s := open(t, rstore.Config{URL: sentinel.url(), Timeout: 4 * time.Second, Logger: zerolog.New(&log)})
	elsewhere := open(t, rstore.Config{URL: second.URL()})
	running := must(t, s, claim("running"))
	sentinel.says(t, "+odown", "master it "+spaced(first)+" #quorum 2/2")
	log.await(t, `"event":"store_failover"`)
	sentinel.says(t, "+switch-master", "it "+spaced(first)+" "+spaced(second))
	next := must(t, s, claim("next"))
	for _, c := range []idem.Claim{running, next} {
		acquire(t, elsewhere, c, idem.VerdictInProgress)
	}
	second.Kill() // nobody goes back to the one that was replaced, while Sentinels may still name that
	begun, before := time.Now(), sentinel.wasAsked()
	for ; sentinel.wasAsked() < before+3; time.Sleep(5 * time.Millisecond) {
		_, err := s.Acquire(t.Context(), claim("nowhere"))
		if time.Since(begun) > rstore.FledFor/2 {
			break // the machine is slow: they are believed again before long
		}
		if !errors.Is(err, idem.ErrUnavailable) {
			t.Fatalf("without a primary: %v", err)
		}
	}
}

// A Sentinel that knows of no primary is passed over for the next that does.
func TestSentinelsThatKnowNothing(t *testing.T) {
	t.Parallel()
	primary := redistest.Start(t)
	empty, knows := newSayer(t, nil), newSayer(t, primary)
	s := open(t, rstore.Config{URL: empty.url() + "&addr=127.0.0.1:1&addr=" + knows.addr})
	awaitReady(t, s)
	must(t, s, claim("k"))
}
