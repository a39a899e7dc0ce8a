package message

import "bytes"

// CanonicalHost appends the one spelling of a Host field to dst: in lower case,
// without the dot that may end a name, without a default port. Both default
// ports go, since the scheme is not part of what this proxy compares: it does not
// know which of the two a client used in front of a balancer. Another port stays.
// IP addresses stay as they are spelled.
//
// The host is part of the target (RFC 9110 section 7.1), so all that asks whether
// two requests have one target, or which route a target takes, asks this function.
func CanonicalHost(dst, host []byte) []byte {
	name, port := cutPort(host)
	if n := len(name); n > 1 && name[n-1] == '.' {
		name = name[:n-1]
	}
	dst = AppendLower(dst, name)
	switch string(port) {
	case "", "80", "443":
		return dst
	}
	return append(append(dst, ':'), port...)
}

// cutPort cuts a port off; the colons of an IP address are no ports.
func cutPort(host []byte) (name, port []byte) {
	i := bytes.LastIndexByte(host, ':')
	if i < 0 || bytes.IndexByte(host[i:], ']') >= 0 || host[0] != '[' && bytes.IndexByte(host[:i], ':') >= 0 {
		return host, nil
	}
	return host[:i], host[i+1:]
}

// HostName is a canonical host without its port, for routes.
func HostName(canonical []byte) []byte {
	name, _ := cutPort(canonical)
	return name
}
