package admin

import (
	"errors"
	"mime"
	"net/http"
)

// errNoBackup is the answer where the store is backed up otherwise.
var errNoBackup = errors.New("only an embedded store is backed up by its proxy; Redis and " +
	"PostgreSQL have ways of their own (docs/backup.md)")

// backup streams a backup of the store. One that breaks off has no list of files at its end, which
// whoever reads it notices; the connection is broken off, too.
func (s *Server) backup(w http.ResponseWriter, r *http.Request) {
	// A page in the operator's browser can post anything but this type unasked.
	if mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); mediaType != "application/json" {
		refuse(w, http.StatusUnsupportedMediaType, errors.New("want Content-Type: application/json"))
		return
	}
	if s.config.Backup == nil {
		refuse(w, http.StatusNotFound, errNoBackup)
		return
	}
	out := &begun{ResponseWriter: w}
	if err := s.config.Backup(r.Context(), r.RemoteAddr, out); err != nil {
		if out.begun {
			panic(http.ErrAbortHandler) // how net/http breaks a response off
		}
		refuse(w, http.StatusServiceUnavailable, err)
	}
}

// begun knows whether an answer has begun.
type begun struct {
	http.ResponseWriter
	begun bool
}

// Write implements io.Writer.
func (b *begun) Write(p []byte) (int, error) {
	if !b.begun {
		b.begun = true
		b.Header().Set("Content-Type", "application/x-tar")
		b.Header().Set("Cache-Control", "no-store")
	}
	return b.ResponseWriter.Write(p) //nolint:wrapcheck // it stands in for the answer
}
