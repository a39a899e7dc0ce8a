package message

// isOrigin says of a field that balancers, CDNs and TLS ends write it, and that
// backends behind them take it for true: from which address or with which certificate
// the client came, or which host, target or scheme the request was for. These are all
// that are known of; docs/edge.md lists them.
func isOrigin(name []byte) bool {
	if len(name) < len("X-Host") {
		return false
	}
	switch name[0] | 0x20 {
	case 'x':
		return isFamily(name, "X-Forwarded-") || isFamily(name, "X-SSL-Client-") || isOriginX(name)
	case 'c', 'f', 't':
	default:
		return false
	}
	switch len(name) {
	case 9:
		return EqualFold(name, "Client-IP")
	case 11:
		return EqualFold(name, "Client-Cert") // RFC 9440, as the next one
	case 13:
		return EqualFold(name, "Forwarded-For") || EqualFold(name, "Fly-Client-IP")
	case 14:
		return EqualFold(name, "True-Client-IP")
	case 15:
		return EqualFold(name, "Front-End-Https")
	case 16:
		return EqualFold(name, "CF-Connecting-IP") || EqualFold(name, "Fastly-Client-IP")
	case 17:
		return EqualFold(name, "Client-Cert-Chain")
	case 18:
		return EqualFold(name, "CF-Connecting-IPv6")
	}
	return false
}

// isOriginX is isOrigin for names that begin with X and are of no family.
func isOriginX(name []byte) bool {
	switch len(name) {
	case 6:
		return EqualFold(name, "X-Host")
	case 8:
		return EqualFold(name, "X-Scheme")
	case 9:
		return EqualFold(name, "X-Real-IP") || EqualFold(name, "X-ARR-SSL")
	case 11:
		return EqualFold(name, "X-Forwarded") || EqualFold(name, "X-Client-IP") || EqualFold(name, "X-Remote-IP")
	case 12:
		return EqualFold(name, "X-URL-Scheme")
	case 13:
		return EqualFold(name, "X-Rewrite-URL") || EqualFold(name, "X-Remote-Addr") || EqualFold(name, "X-Client-Cert")
	case 14:
		return EqualFold(name, "X-Original-URL") || EqualFold(name, "X-Original-URI") || EqualFold(name, "X-ProxyUser-IP")
	case 15:
		return EqualFold(name, "X-Original-Host")
	case 16:
		return EqualFold(name, "X-Original-Proto") || EqualFold(name, "X-Azure-ClientIP") || EqualFold(name, "X-Azure-SocketIP") ||
			EqualFold(name, "X-ARR-ClientCert")
	case 17:
		return EqualFold(name, "X-Original-Method")
	case 19:
		return EqualFold(name, "X-Cluster-Client-IP") || EqualFold(name, "X-AppEngine-User-IP")
	case 20:
		return EqualFold(name, "X-HTTP-Host-Override")
	case 21:
		return EqualFold(name, "X-Envoy-Original-Path") || EqualFold(name, "X-Envoy-Original-Host")
	case 24:
		return EqualFold(name, "X-Original-Forwarded-For") || EqualFold(name, "X-Envoy-External-Address")
	}
	return false
}

// isFamily says whether a name begins with prefix and goes on.
func isFamily(name []byte, prefix string) bool {
	return len(name) > len(prefix) && EqualFold(name[:len(prefix)], prefix)
}
