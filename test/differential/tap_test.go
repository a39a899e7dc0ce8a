package differential_test

import (
	"io"
	"net"
	"sync"
	"testing"
)

// tap is between the proxy and a reader, and keeps what each tells the other.
type tap struct {
	addr string
	to   string

	mu    sync.Mutex
	conns []*tapped // guarded by mu; in the order in which they were opened
}

// tapped is one connection.
type tapped struct {
	port  int           // where the reader sees it come from
	ended chan struct{} // closed when both sides have

	mu            sync.Mutex
	sent, answers []byte // guarded by mu
}

// talk is what was said on a connection since the last look.
type talk struct {
	conn          *tapped
	sent, answers []byte
}

func newTap(t *testing.T, to string) *tap {
	t.Helper()
	ln := listen(t)
	p := &tap{addr: ln.Addr().String(), to: to}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go p.carry(c)
		}
	}()
	return p
}

func (p *tap) carry(c net.Conn) {
	defer func() { _ = c.Close() }()
	reader, err := net.Dial("tcp", p.to) //nolint:noctx // a test
	if err != nil {
		return
	}
	defer func() { _ = reader.Close() }()
	k := &tapped{port: reader.LocalAddr().(*net.TCPAddr).Port, ended: make(chan struct{})} //nolint:forcetypeassert // we dialled TCP
	p.mu.Lock()
	p.conns = append(p.conns, k)
	p.mu.Unlock()
	there := make(chan struct{})
	go func() {
		defer close(there)
		_, _ = io.Copy(io.MultiWriter(keeper{k, &k.sent}, reader), c)
		_ = reader.(*net.TCPConn).CloseWrite() //nolint:forcetypeassert // we dialled TCP
	}()
	_, _ = io.Copy(io.MultiWriter(keeper{k, &k.answers}, c), reader)
	_ = c.Close()
	<-there
	close(k.ended)
}

type keeper struct {
	k  *tapped
	to *[]byte
}

func (w keeper) Write(p []byte) (int, error) {
	w.k.mu.Lock()
	defer w.k.mu.Unlock()
	*w.to = append(*w.to, p...)
	return len(p), nil
}

// live are the connections that have not been looked at after their end.
func (p *tap) live() []*tapped {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]*tapped(nil), p.conns...)
}

// take returns what was said since the last time, and forgets connections that
// have ended.
func (p *tap) take() (all []talk) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var still []*tapped
	for _, k := range p.conns {
		ended := false
		select {
		case <-k.ended:
			ended = true
		default:
		}
		k.mu.Lock()
		all = append(all, talk{k, k.sent, k.answers})
		k.sent, k.answers = nil, nil
		k.mu.Unlock()
		if !ended {
			still = append(still, k)
		}
	}
	p.conns = still
	return all
}
