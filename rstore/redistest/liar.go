package redistest

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Lie is what a Liar does about one command.
type Lie struct {
	// Instead, if not nil, is the reply, and the server never gets the command.
	Instead []byte
	// Says, if not nil, is the reply to a command that the server has executed.
	Says []byte
	// Late is for how long the reply is held back, and all replies after it.
	Late time.Duration
	// Twice has the reply come once more.
	Twice bool
	// Cut breaks the connection after so many bytes of the reply, less one; 0: it does not.
	Cut int
}

// Liar stands between clients and a server, and does not always tell the truth. It never
// reorders.
type Liar struct {
	// Addr is where it listens.
	Addr string

	lie      func(command []string) Lie
	listener net.Listener
	deaf     atomic.Bool
	poses    atomic.Bool

	mu       sync.Mutex
	upstream string                // guarded by mu
	conns    map[net.Conn]struct{} // the clients'; guarded by mu
	serving  sync.WaitGroup
}

// NewLiar puts a liar before the server at upstream, until the test ends. It asks lie about
// each command, from one goroutine a connection.
func NewLiar(tb testing.TB, upstream string, lie func(command []string) Lie) *Liar {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	l := &Liar{
		Addr: listener.Addr().String(), lie: lie, listener: listener, upstream: upstream, conns: map[net.Conn]struct{}{},
	}
	l.serving.Go(l.accept)
	tb.Cleanup(func() {
		_ = listener.Close()
		l.Break()
		l.serving.Wait()
	})
	return l
}

// Deaf has clients not be told of changed keys, or told again.
func (l *Liar) Deaf(deaf bool) { l.deaf.Store(deaf) }

// Pose has the server say that it is a replica, where it is asked for its role.
func (l *Liar) Pose(replica bool) { l.poses.Store(replica) }

// Lead has new connections lead to another server, and breaks those that there are.
func (l *Liar) Lead(upstream string) {
	l.mu.Lock()
	l.upstream = upstream
	l.mu.Unlock()
	l.Break()
}

// Break breaks all connections.
func (l *Liar) Break() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for conn := range l.conns {
		_ = conn.Close()
	}
}

// Unasked sends a reply over each connection that no command asked for.
func (l *Liar) Unasked(reply string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for conn := range l.conns {
		_, _ = conn.Write([]byte(reply))
	}
}

func (l *Liar) accept() {
	for {
		conn, err := l.listener.Accept()
		if err != nil {
			return // the test has ended
		}
		l.mu.Lock()
		upstream := l.upstream
		l.conns[conn] = struct{}{}
		l.mu.Unlock()
		l.serving.Go(func() {
			l.serve(conn, upstream)
			l.mu.Lock()
			defer l.mu.Unlock()
			delete(l.conns, conn)
		})
	}
}

func (l *Liar) serve(client net.Conn, upstream string) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", upstream)
	if err != nil {
		return
	}
	asked := make(chan Lie, 1<<10)
	var replies sync.WaitGroup
	replies.Go(func() {
		l.reply(client, bufio.NewReader(server), asked)
		_ = client.Close()
		_ = server.Close()
	})
	l.pass(bufio.NewReader(client), server, asked)
	close(asked)
	_ = client.Close()
	_ = server.Close()
	replies.Wait()
}

// pass hands a client's commands to the server.
func (l *Liar) pass(client *bufio.Reader, server net.Conn, asked chan<- Lie) {
	for {
		var command bytes.Buffer
		if _, err := readFrame(client, &command); err != nil {
			return
		}
		lie := l.lie(words(command.Bytes()))
		asked <- lie // before the server can have answered
		if lie.Instead != nil {
			continue
		}
		if _, err := server.Write(command.Bytes()); err != nil {
			return
		}
	}
}

// frame is what a server sent.
type frame struct {
	push bool
	text []byte
}

// reply hands the server's replies to a client, each as the lie about its command has it.
func (l *Liar) reply(client net.Conn, server *bufio.Reader, asked <-chan Lie) {
	frames, end := make(chan frame), make(chan struct{})
	defer close(end)
	go func() {
		defer close(frames)
		for {
			var text bytes.Buffer
			kind, err := readFrame(server, &text)
			if err != nil {
				return
			}
			select {
			case frames <- frame{kind == '>', text.Bytes()}:
			case <-end:
				return
			}
		}
	}()
	for {
		select {
		case lie, ok := <-asked:
			if !ok || !l.answer(client, frames, lie) {
				return
			}
		case f, ok := <-frames:
			if !ok || !l.first(client, f, asked) {
				return
			}
		}
	}
}

// first is for what came before a command was looked for that it may be the reply to.
func (l *Liar) first(client net.Conn, f frame, asked <-chan Lie) bool {
	if f.push {
		return l.push(client, f)
	}
	for lie := range asked {
		if lie.Instead == nil {
			return l.tell(client, f, lie)
		}
		if !l.tell(client, frame{}, lie) {
			return false
		}
	}
	return false
}

// answer waits for the reply to one command. False: the connection is broken.
func (l *Liar) answer(client net.Conn, frames <-chan frame, lie Lie) bool {
	if lie.Instead != nil {
		return l.tell(client, frame{}, lie)
	}
	for f := range frames {
		if !f.push {
			return l.tell(client, f, lie)
		}
		if !l.push(client, f) {
			return false
		}
	}
	return false
}

// push tells of changed keys.
func (l *Liar) push(client net.Conn, f frame) bool {
	if l.deaf.Load() && bytes.Contains(f.text, []byte("invalidate")) {
		return true
	}
	_, err := client.Write(f.text)
	return err == nil
}

// tell lies.
func (l *Liar) tell(client net.Conn, f frame, lie Lie) bool {
	text := f.text
	switch {
	case lie.Instead != nil:
		text = lie.Instead
	case lie.Says != nil:
		text = lie.Says
	case l.poses.Load():
		text = bytes.Replace(text, []byte("role:master"), []byte("role:slave "), 1)
		text = bytes.Replace(text, []byte("$6\r\nmaster"), []byte("$6\r\nslave "), 1)
	}
	if lie.Late > 0 {
		time.Sleep(lie.Late)
	}
	if lie.Cut > 0 {
		_, _ = client.Write(text[:min(lie.Cut, len(text))-1])
		return false
	}
	if lie.Twice {
		text = append(bytes.Clone(text), text...)
	}
	_, err := client.Write(text)
	return err == nil
}

// readFrame copies one message of Redis's protocol, and says of which kind it is.
func readFrame(r *bufio.Reader, to *bytes.Buffer) (kind byte, err error) {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return 0, err
	}
	to.Write(line)
	n := 0
	for _, digit := range bytes.TrimRight(line[1:], "\r\n") {
		if digit < '0' || digit > '9' {
			n = 0 // -1 is nothing, and what is no number has no more lines
			break
		}
		n = 10*n + int(digit-'0')
	}
	kind = line[0]
	switch kind {
	case '$', '=', '!':
		if line[1] != '-' {
			_, err = io.CopyN(to, r, int64(n+2))
		}
		return kind, err
	case '%':
		n *= 2
	case '*', '~', '>':
	default:
		return kind, nil
	}
	for range n {
		if _, err := readFrame(r, to); err != nil {
			return kind, err
		}
	}
	return kind, nil
}

// words are a command's.
func words(command []byte) (all []string) {
	r := bufio.NewReader(bytes.NewReader(command))
	if line, err := r.ReadBytes('\n'); err != nil || line[0] != '*' {
		return nil
	}
	for {
		var word bytes.Buffer
		if _, err := readFrame(r, &word); err != nil {
			return all
		}
		_, text, _ := bytes.Cut(word.Bytes(), []byte("\r\n"))
		all = append(all, string(bytes.TrimSuffix(text, []byte("\r\n"))))
	}
}
