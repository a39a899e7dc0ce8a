//go:build !linux

package proxy

import "golang.org/x/sys/unix"

// endedByPeer says that the peer of a socket has ended the connection, or its side of it.
// Without Linux's POLLRDHUP that is known once all that it sent has been read.
func endedByPeer(fd uintptr) bool {
	n, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
	return err == nil && n == 0 || err == unix.ECONNRESET
}
