package admin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Readiness is how what a proxy needs is doing.
type Readiness struct {
	Checks []Checked
	// Serves says that there is traffic which would be served.
	Serves bool
}

// Checked is one thing that a proxy needs.
type Checked struct {
	Name string
	// Err is nil if it can be had.
	Err error
	// Note is what is wrong with it all the same.
	Note string
}

// ErrNoUpstream is a question about an upstream that does not exist.
var ErrNoUpstream = errors.New("there is no such upstream")

// requireAll stands for all checks.
const requireAll = "all"

// isReady is what /readyz answers.
type isReady struct {
	Status   string            `json:"status"`
	Degraded []string          `json:"degraded,omitempty"` // names of checks
	Checks   map[string]string `json:"checks"`
	// Since is when each of Degraded was first seen to be amiss. It may have been earlier:
	// nobody looks but who asks.
	Since map[string]time.Time `json:"since,omitempty"`
}

// amissSince remembers since when checks are amiss.
type amissSince struct {
	mu  sync.Mutex
	all map[string]time.Time // guarded by mu; by the check's name
}

// note takes in what was found, and fills in Since. whole: all checks were made, so that what
// is not among them is no check any more.
func (a *amissSince) note(out *isReady, whole bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.DeleteFunc(a.all, func(name string, _ time.Time) bool {
		_, made := out.Checks[name]
		return (made || whole) && !slices.Contains(out.Degraded, name)
	})
	for _, name := range out.Degraded {
		if a.all == nil {
			a.all = map[string]time.Time{}
		}
		if a.all[name].IsZero() {
			a.all[name] = time.Now().UTC().Truncate(time.Second)
		}
		if out.Since == nil {
			out.Since = map[string]time.Time{}
		}
		out.Since[name] = a.all[name]
	}
}

// readyz says whether new requests should be sent here, and what is amiss: 503 while
// the proxy drains, while nothing would be served, or while a check fails that the
// settings or the question require.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), s.config.CheckTimeout)
	defer cancel()
	q := r.URL.Query()
	var upstream *string
	if q.Has("upstream") {
		name := q.Get("upstream")
		upstream = &name
	}
	found, err := s.config.Ready(ctx, upstream)
	if err != nil {
		refuse(w, http.StatusNotFound, err)
		return
	}
	required, err := s.required(q["require"], found.Checks, upstream == nil)
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	out, ready := said(&found, required)
	s.amiss.note(&out, upstream == nil)
	switch {
	case s.draining.Load():
		out.Status, ready = "draining", false
	case !ready:
		out.Status = "not ready"
	case len(out.Degraded) > 0:
		out.Status = "degraded"
	}
	status := http.StatusOK
	if !ready {
		status = http.StatusServiceUnavailable
	}
	answer(w, status, out)
}

// required are the names of the checks that must hold: those of the settings, if the whole
// proxy is asked about, and those that the question names.
func (s *Server) required(asked []string, checks []Checked, whole bool) (names []string, err error) {
	if whole && s.config.ReadyRequires != nil {
		names = slices.Clone(s.config.ReadyRequires())
	}
	for _, list := range asked {
		for name := range strings.SplitSeq(list, ",") {
			if name != requireAll && !slices.ContainsFunc(checks, func(c Checked) bool { return c.Name == name }) {
				return nil, fmt.Errorf("require %q: want names of checks, or %s", name, requireAll)
			}
			names = append(names, name)
		}
	}
	return names, nil
}

func said(found *Readiness, required []string) (out isReady, ready bool) {
	out, ready = isReady{Status: "ready", Checks: map[string]string{}}, found.Serves
	for _, c := range found.Checks {
		out.Checks[c.Name] = "ok"
		switch {
		case c.Err != nil:
			out.Checks[c.Name] = c.Err.Error()
			ready = ready && !slices.Contains(required, c.Name) && !slices.Contains(required, requireAll)
		case c.Note != "":
			out.Checks[c.Name] = c.Note
		default:
			continue
		}
		out.Degraded = append(out.Degraded, c.Name)
	}
	return out, ready
}
