package admin

import (
	"embed"
	"io/fs"
	"net/http"
	"strings"
)

// The page and the description of the API are files of the binary: nothing is
// loaded from anywhere else.
//
//go:embed page
var files embed.FS

// registerPage serves the page to everybody: it holds nothing. What it shows it
// asks for, with the token that the operator gives it.
func (s *Server) registerPage(mux *http.ServeMux) {
	page, err := fs.Sub(files, "page")
	if err != nil {
		panic(err) // the folder is named above
	}
	served := http.FileServerFS(page)
	mux.HandleFunc("GET /{$}", secured(served))
	for _, pattern := range []string{"*.js", "*.css", "openapi.json"} {
		names, err := fs.Glob(page, pattern)
		if err != nil {
			panic(err) // the patterns are above
		}
		for _, name := range names {
			mux.HandleFunc("GET /"+name, secured(served))
		}
	}
	mux.HandleFunc("GET /vendor/{file}", secured(lasting(served)))
}

// lasting lets browsers keep what has its version in its name.
func lasting(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.PathValue("file"), ".min.") {
			w.Header().Set("Cache-Control", "max-age=31536000, immutable")
		}
		h.ServeHTTP(w, r)
	})
}

// secured allows a page its own files, and nobody to frame it.
func secured(h http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy",
			"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; frame-ancestors 'none'; "+
				"base-uri 'none'; form-action 'none'")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "no-referrer")
		w.Header().Set("Cache-Control", "no-cache")
		h.ServeHTTP(w, r)
	}
}
