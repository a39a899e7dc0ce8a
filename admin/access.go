package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net"
	"net/http"
	"strings"
)

// protected is for what shows or changes more than numbers. With a token, who
// has it may ask from anywhere. Without one, only this machine may: over
// loopback, and by an address or the name localhost, since a browser that was
// lured to a stranger's name for this address (DNS rebinding) says that name.
func (s *Server) protected(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case len(s.config.Token) > 0 && !s.hasToken(r):
			w.Header().Set("WWW-Authenticate", "Bearer") // RFC 6750 section 3
			refuse(w, http.StatusUnauthorized, errors.New("want Authorization: Bearer and the token of admin_token_file"))
		case len(s.config.Token) == 0 && !isLoopback(r.RemoteAddr):
			refuse(w, http.StatusForbidden, errors.New("without a token (admin_token_file) this is for this machine only: "+
				"connect over loopback"))
		case len(s.config.Token) == 0 && !isOwnName(r.Host):
			refuse(w, http.StatusMisdirectedRequest, errors.New("want this machine's address or localhost as host"))
		default:
			h(w, r)
		}
	}
}

// hasToken takes the same time for every wrong token.
func (s *Server) hasToken(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	given, want := sha256.Sum256([]byte(token)), sha256.Sum256(s.config.Token)
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(given[:], want[:]) == 1
}

func isOwnName(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return net.ParseIP(strings.Trim(host, "[]")) != nil || strings.EqualFold(host, "localhost")
}

func isLoopback(remote string) bool {
	host, _, err := net.SplitHostPort(remote)
	return err == nil && net.ParseIP(host).IsLoopback()
}
