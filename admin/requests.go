package admin

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Requests is what /requests answers: the newest first.
type Requests struct {
	Requests []Event `json:"requests"`
	More     bool    `json:"more"` // there are more than asked for
	// UsualSince and NotableSince are how far back requests of each kind are kept.
	UsualSince   *time.Time `json:"usual_since,omitempty"`
	NotableSince *time.Time `json:"notable_since,omitempty"`
}

// defaultRequests and maxRequests are how many are shown.
const defaultRequests, maxRequests = 100, 2 * maxKept

// sought is which requests a question is about.
type sought struct {
	outcomes           []string
	route, key, id     string
	anyRoute           bool
	fromStatus, status int // up to and with status
	before             uint64
	limit              int
}

func parseSought(q url.Values) (s sought, err error) {
	s = sought{limit: defaultRequests, id: q.Get("request_id"), route: q.Get("route"), anyRoute: q.Get("route") == "", status: 999}
	if text := q.Get("outcome"); text != "" {
		s.outcomes = strings.Split(text, ",")
	}
	if s.route == "default" {
		s.route = "" // as metrics call the rules at large
	}
	if text := strings.ToLower(q.Get("key")); text != "" {
		s.key = "key:" + strings.TrimPrefix(text, "key:")
	}
	if text := q.Get("status"); text != "" {
		if s.fromStatus, s.status, err = statuses(text); err != nil {
			return s, err
		}
	}
	if text := q.Get("limit"); text != "" {
		if s.limit, err = strconv.Atoi(text); err != nil || s.limit < 1 || s.limit > maxRequests {
			return s, fmt.Errorf("limit %q: want 1 to %d", text, maxRequests)
		}
	}
	if text := q.Get("before"); text != "" {
		if s.before, err = strconv.ParseUint(text, 10, 64); err != nil {
			return s, fmt.Errorf("before %q: want the seq of a request", text)
		}
	}
	return s, nil
}

// statuses are those that 409 or 4xx stands for.
func statuses(text string) (from, to int, err error) {
	if class, ok := strings.CutSuffix(strings.ToLower(text), "xx"); ok {
		if n, err := strconv.Atoi(class); err == nil && n >= 1 && n <= 5 {
			return 100 * n, 100*n + 99, nil
		}
	} else if n, err := strconv.Atoi(text); err == nil && n >= 100 && n <= 999 {
		return n, n, nil
	}
	return 0, 0, fmt.Errorf("status %q: want a status such as 409, or a class such as 4xx", text)
}

func (s *sought) is(e *Event) bool {
	return (len(s.outcomes) == 0 || slices.Contains(s.outcomes, e.Outcome)) && (s.anyRoute || e.Route == s.route) &&
		e.Status >= s.fromStatus && e.Status <= s.status && (s.key == "" || e.Key == s.key) &&
		(s.id == "" || e.Request == s.id) && (s.before == 0 || e.Seq < s.before)
}

// find is the requests that are sought, the newest first.
func (r *Recent) find(s *sought) Requests {
	out := Requests{Requests: []Event{}}
	collect := func(from *ring) (since *time.Time) {
		from.each(func(e Event) {
			if since == nil || e.At.Before(*since) {
				since = &e.At
			}
			if s.is(&e) {
				out.Requests = append(out.Requests, e)
			}
		})
		return since
	}
	out.UsualSince, out.NotableSince = collect(&r.usual), collect(&r.notable)
	slices.SortFunc(out.Requests, func(a, b Event) int { return cmp.Compare(b.Seq, a.Seq) })
	if len(out.Requests) > s.limit {
		out.Requests, out.More = out.Requests[:s.limit], true
	}
	return out
}

// mismatch is the last request that used a key otherwise than its first one did, or would
// have if it was only observed; nil if none is kept.
func (r *Recent) mismatch(digest string) *Event {
	if r == nil {
		return nil
	}
	var last *Event
	r.notable.each(func(e Event) { last = laterMismatch(last, e, digest) })
	r.usual.each(func(e Event) { last = laterMismatch(last, e, digest) })
	return last
}

func laterMismatch(last *Event, e Event, digest string) *Event {
	if e.Key != digest || e.Differs == "" || last != nil && last.Seq > e.Seq {
		return last
	}
	return &e
}

// serve is GET /requests.
func (r *Recent) serve(w http.ResponseWriter, q *http.Request) {
	s, err := parseSought(q.URL.Query())
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	answer(w, http.StatusOK, r.find(&s))
}
