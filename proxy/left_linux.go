package proxy

import "golang.org/x/sys/unix"

// endedByPeer says that the peer of a socket has ended the connection, or its side of it.
// POLLRDHUP tells so however much of what it sent waits to be read (poll(2)).
func endedByPeer(fd uintptr) bool {
	all := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}} //nolint:gosec // file descriptors are small
	n, err := unix.Poll(all, 0)
	return err == nil && n > 0 && all[0].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0
}
