package pstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/dbtest"
	"github.com/idemproxy/idemproxy/internal/toxitest"
	"github.com/idemproxy/idemproxy/pstore"
)

// patient is a time-out so long that what a test sees of a lost connection is not what
// the leash of a silent one comes to, however slow the machine is.
const patient = 10 * time.Minute

// A connection that is lost ends the answers from memory at once, not when the
// leash of a network that fell silent has run out: what others change meanwhile nobody
// hears. TestPlantedBugsOfTheCache plants the bug that this test finds.
func TestNoCacheOnceTheConnectionIsLost(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	link := toxitest.New(t, server.Addr)
	s := open(t, pstore.Config{URL: "postgres://postgres@" + link.Addr + "/postgres" + conns, Schema: "s", Timeout: patient})
	c := completed(t, s, "k")
	cached(t, s, c)
	mend := link.Cut()
	until(t, "a replay is not answered from memory", func() bool {
		_, err := s.Acquire(context.Background(), rivalOf(c))
		return errors.Is(err, idem.ErrUnavailable)
	})
	server.Do(fmt.Sprintf("DELETE FROM s.record WHERE id = '%x'", c.Key.ID()))
	mend()
	awaitReady(t, s)
	acquire(t, s, c, idem.VerdictAcquired)
}

// heldBack holds back the first message of a server that has some text, until it is let go.
type heldBack struct {
	text string
	once sync.Once
	came chan struct{}
	gone chan struct{}

	letGo func()
}

func newHeldBack(t *testing.T, text string) *heldBack {
	t.Helper()
	h := &heldBack{text: text, came: make(chan struct{}), gone: make(chan struct{})}
	h.letGo = sync.OnceFunc(func() { close(h.gone) })
	t.Cleanup(h.letGo)
	return h
}

func (h *heldBack) meet(message []byte) {
	if bytes.Contains(message, []byte(h.text)) {
		h.once.Do(func() {
			close(h.came)
			<-h.gone
		})
	}
}

func (h *heldBack) await(t *testing.T) {
	t.Helper()
	select {
	case <-h.came:
	case <-time.After(time.Minute):
		t.Fatalf("the server does not say %q", h.text)
	}
}

// An answer that was asked for while nothing was heard, and that arrives when
// notifications are heard again, is not kept: it may have changed in between.
func TestAnswersOfDeafTimesAreNotKept(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	network := newCutter(t, server.Addr)
	config := pstore.Config{URL: "postgres://postgres@" + network.addr + "/postgres" + conns + "&sslmode=disable", Schema: "s", Timeout: patient}
	s := open(t, config)
	c := completed(t, s, "the response")
	until(t, "notifications are heard", s.Heard)

	listening, answer := newHeldBack(t, "LISTEN\x00"), newHeldBack(t, "the response")
	meet := func(message []byte) { listening.meet(message); answer.meet(message) }
	network.met.Store(&meet)
	server.Do("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN %'")
	listening.await(t)
	asked := make(chan error, 1)
	go func() {
		_, err := s.Acquire(context.Background(), rivalOf(c))
		asked <- err
	}()
	answer.await(t)
	// Unheard, as what is changed just before somebody listens.
	server.Do("SET session_replication_role = replica", fmt.Sprintf("DELETE FROM s.record WHERE id = '%x'", c.Key.ID()))
	listening.letGo()
	until(t, "notifications are heard again", s.Heard)
	answer.letGo()
	if err := <-asked; err != nil {
		t.Fatal(err)
	}
	acquire(t, s, c, idem.VerdictAcquired)
}
