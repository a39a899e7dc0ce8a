package pstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// handshakeAtMost bounds the time of a connect, TLS and authentication included, unless
// the URL says connect_timeout. It is longer than a call waits: connecting goes on when
// the call that needed the connection has failed, and the next call uses it. A server that
// is busy with the connections of a whole fleet, as after a failover, would otherwise never
// finish one of them in time.
const handshakeAtMost = 5 * time.Second

// connectingAtMost is how many connections a pool makes at once. Each costs the server a
// process and the proof of a password.
const connectingAtMost = 4

// errSilent: see dialing.
var errSilent = errors.New("not dialed: it did not answer the last time")

// dialer makes the connections of a Store, whose ConnectTimeout is set. It is safe for concurrent use.
type dialer struct {
	timeout time.Duration // of a dial: a host that does not even answer that is down
	turns   chan struct{}

	mu     sync.Mutex
	silent map[string]bool // guarded by mu: addresses that are left out
}

func newDialer(timeout time.Duration) *dialer {
	return &dialer{timeout: timeout, turns: make(chan struct{}, connectingAtMost), silent: map[string]bool{}}
}

// pooled is pgxpool's BeforeConnect.
func (d *dialer) pooled(_ context.Context, conn *pgx.ConnConfig) error {
	d.attach(conn, d.turns)
	return nil
}

// attach has d make the one connection that conn is used for. turns are nil for one that
// waits for no others.
func (d *dialer) attach(conn *pgx.ConnConfig, turns chan struct{}) {
	c := &dialing{dialer: d, turns: turns, dial: conn.DialFunc, validate: conn.ValidateConnect}
	conn.DialFunc, conn.ValidateConnect = c.Dial, c.Validate
}

// dialing is the making of one connection, for which pgx tries one host after the other.
//
// A host that is down answers nothing, and each connection would wait for it before it
// comes to the host that works: in that time every call fails. So the hosts that did not
// answer while another one did are left out, until a connect fails.
type dialing struct {
	*dialer
	turns    chan struct{}
	dial     pgconn.DialFunc
	validate pgconn.ValidateConnectFunc
	begun    bool
	unheard  []string    // the addresses that did not answer
	made     atomic.Bool // the connection
}

func (c *dialing) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if err := c.begin(ctx); err != nil {
		return nil, err
	}
	if c.isSilent(addr) || slices.Contains(c.unheard, addr) {
		return nil, errSilent
	}
	dialing, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	conn, err := c.dial(dialing, network, addr)
	if err != nil && dialing.Err() != nil {
		c.unheard = append(c.unheard, addr)
	}
	return conn, err //nolint:wrapcheck // pgx says which host
}

// begin waits until few others are connecting. The context of the first host that is tried
// ends with the connect, or when that host has had its time.
func (c *dialing) begin(ctx context.Context) error {
	if c.begun {
		return nil
	}
	if c.turns != nil {
		select {
		case c.turns <- struct{}{}:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %d others that connect: %w", cap(c.turns), ctx.Err())
		}
	}
	c.begun = true
	context.AfterFunc(ctx, func() {
		if c.turns != nil {
			<-c.turns
		}
		if !c.made.Load() {
			c.tryAll()
		}
	})
	return nil
}

// Validate is pgx's last step: the server is one of the kind that is wanted.
func (c *dialing) Validate(ctx context.Context, conn *pgconn.PgConn) error {
	if err := c.validate(ctx, conn); err != nil {
		return err //nolint:wrapcheck // pgx says which host
	}
	c.made.Store(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, addr := range c.unheard {
		c.silent[addr] = true
	}
	return nil
}

func (d *dialer) isSilent(addr string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.silent[addr]
}

// tryAll has no host be left out any more.
func (d *dialer) tryAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.silent)
}
