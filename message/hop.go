package message

// IsHopByHop says of a field's name that it concerns one connection only and is
// not forwarded.
func IsHopByHop(name []byte) bool {
	switch len(name) {
	case 2:
		return EqualFold(name, "TE") // RFC 9110 10.1.4
	case 6:
		return EqualFold(name, "Expect") // RFC 9110 10.1.1: answered here, with 100 Continue
	case 7:
		return EqualFold(name, "Trailer") || EqualFold(name, "Upgrade") // RFC 9110 6.6.2, 7.8
	case 10:
		return EqualFold(name, "Connection") || EqualFold(name, "Keep-Alive") // RFC 9110 7.6.1, RFC 2068 19.7.1
	case 16:
		return EqualFold(name, "Proxy-Connection") // never standard, still sent
	case 17:
		return EqualFold(name, "Transfer-Encoding") // RFC 9112 6.1
	case 18:
		return EqualFold(name, "Proxy-Authenticate") // RFC 9110 11.7.1
	case 19:
		return EqualFold(name, "Proxy-Authorization") // RFC 9110 11.7.2
	case 25:
		return EqualFold(name, "Proxy-Authentication-Info") // RFC 9110 11.7.3
	}
	return false
}
