package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/proxy"
)

// listeners opens what clients connect to. What it returns with an error is to
// be closed, too.
func listeners(
	c *config.Config, trusted *atomic.Pointer[[]netip.Prefix], certs *certificates, failed func(error), refused refusing,
) (all []net.Listener, err error) {
	for _, addr := range c.Listen {
		ln, err := listenOn(addr, c.ReusePort)
		if err != nil {
			return all, c.At(nil, "listen", fmt.Errorf("%s: %w", addr, err))
		}
		ln = proxy.Listen(ln, proxy.Listening{SendTimeout: c.SendTimeout, AcceptFailed: failed})
		if _, local := ln.Addr().(*net.UnixAddr); !local {
			if c.ProxyProtocol {
				ln = proxied(ln, c, trusted, refused)
			}
			if certs != nil {
				ln = tls.NewListener(ln, certs.listening())
			}
		}
		all = append(all, ln)
	}
	return all, nil
}

func listenOn(addr string, reusePort bool) (net.Listener, error) {
	if file, ok := strings.CutPrefix(addr, "unix:"); ok {
		return listenUnix(file)
	}
	if fd, ok := strings.CutPrefix(addr, "fd:"); ok {
		n, err := strconv.Atoi(fd)
		if err != nil {
			return nil, fmt.Errorf("the number of the socket: %w", err)
		}
		f := os.NewFile(uintptr(n), addr)
		defer func() { _ = f.Close() }() // the listener has a copy
		ln, err := net.FileListener(f)
		if err != nil {
			return nil, fmt.Errorf("nothing that can be listened on was handed over: %w", err)
		}
		return ln, nil
	}
	var lc net.ListenConfig
	if reusePort {
		lc.Control = func(_, _ string, c syscall.RawConn) (err error) {
			if controlErr := c.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			}); controlErr != nil {
				err = controlErr
			}
			if err != nil {
				return fmt.Errorf("SO_REUSEPORT: %w", err)
			}
			return nil
		}
	}
	ln, err := lc.Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller says where
	}
	return ln, nil
}

// listenUnix takes a socket's path, also from a process that ended without
// removing it, but not from one that still listens, nor from what is no socket.
func listenUnix(path string) (net.Listener, error) {
	ln, err := net.Listen("unix", path) //nolint:noctx // it does not block
	if errors.Is(err, syscall.EADDRINUSE) {
		// A connection to what is no socket is refused just as one to a socket that was left.
		if there, statErr := os.Lstat(path); statErr == nil && there.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("there is %s: only a socket is replaced: %w", kindOf(there.Mode()), err)
		}
		conn, dialErr := net.Dial("unix", path) //nolint:noctx // as above
		if dialErr == nil {
			_ = conn.Close()
			return nil, err //nolint:wrapcheck // the caller says where
		}
		if errors.Is(dialErr, syscall.ECONNREFUSED) && os.Remove(path) == nil {
			ln, err = net.Listen("unix", path) //nolint:noctx // as above
		}
	}
	return ln, err //nolint:wrapcheck // as above
}

// kindOf says what there is instead of a socket.
func kindOf(mode os.FileMode) string {
	switch {
	case mode.IsRegular():
		return "a regular file"
	case mode.IsDir():
		return "a directory"
	case mode&os.ModeSymlink != 0:
		return "a symbolic link"
	case mode&os.ModeNamedPipe != 0:
		return "a named pipe"
	}
	return "a device"
}

// checkListening is what is wrong with settings that go together.
func checkListening(c *config.Config) error {
	if c.ProxyProtocol && len(c.TrustedProxies) == 0 {
		return c.At(nil, "proxy-protocol", errors.New("want trusted-proxies with it, who may say where a connection comes from"))
	}
	return nil
}

// cannotAccept is told that file descriptors, say, are used up.
func (a *App) cannotAccept(err error) {
	const means = "no client can connect until connections end; raise the limit (ulimit -n)"
	a.amiss.begin(eventAcceptFailed, means+": "+err.Error())
	a.log.Error().Str("event", "accept_failed").Err(err).Msg(means)
}

// otherFiles are about as many as the stores (an embedded one keeps up to 1,000 open),
// listeners and whoever looks at metrics need.
const otherFiles = 1100

// filesFor is how many files are open when there are max_clients: a connection of each,
// and those to backends, which stay open for the next request.
func filesFor(c *config.Config) uint64 {
	backends := func(u *config.Upstream) int { return len(u.Backends) * min(u.MaxConns, c.MaxClients) }
	n := c.MaxClients + backends(&c.Upstream) + otherFiles
	for i := range c.Upstreams {
		n += backends(&c.Upstreams[i].Upstream)
	}
	return uint64(n) //nolint:gosec // none of them is negative
}

// leastClients are so few that a limit of files which has no room for more was not meant.
const leastClients = 1024

// mostClients is max_clients. Unless somebody set it, it is no more than the limit of open
// files has room for, and a fourth of them at least: each client has one connection to a backend
// at most. A client too many is answered then, and does not wait in vain. With an embedded store
// more than that is at stake: its engine ends the process if it can open no file for its log.
func mostClients(c *config.Config, limit uint64) int {
	want := filesFor(c)
	if c.Origin["max-clients"] != "" || limit >= want {
		return c.MaxClients
	}
	others := want - uint64(c.MaxClients) //nolint:gosec // not negative
	room := max(limit, others) - others
	return min(c.MaxClients, int(max(room, limit/4))) //nolint:gosec // limit is below want
}

// filesLimit is how many files may be open: the hard limit, which the runtime asks for.
func filesLimit() uint64 {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return math.MaxUint64
	}
	return limit.Cur
}

// checkFiles says that max_clients is less than its default, or warns that the limit of file
// descriptors is reached before it.
func (a *App) checkFiles(c *config.Config) {
	limit, want := filesLimit(), filesFor(c)
	most := mostClients(c, limit)
	switch {
	case limit >= want:
	case c.Origin["max-clients"] == "" && most >= leastClients:
		a.log.Info().Str("event", "few_files").Uint64("limit", limit).Uint64("want", want).Int("max_clients", most).
			Msg("max_clients is not set: it is as many as the limit of open files (ulimit -n) has room for")
	default:
		a.log.Warn().Str("event", "few_files").Uint64("limit", limit).Uint64("want", want).Int("max_clients", most).
			Msg("file descriptors (ulimit -n) may be used up before max_clients and max_conns are reached: raise the limit, or lower them")
	}
}
