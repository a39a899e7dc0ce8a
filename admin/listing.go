package admin

import (
	"cmp"
	"container/heap"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/idemproxy/idemproxy/idem"
)

// Listing is what /keys/list answers.
type Listing struct {
	Keys []Record `json:"keys"`
	More bool     `json:"more"` // there are more than asked for
	// Next is what to give as after for those.
	Next string `json:"next,omitempty"`
	// Unread names records that are in no listing, since they cannot be read.
	Unread string `json:"unread,omitempty"`
}

// place is where a record stands among all: the oldest first, and of those of one
// millisecond by the digests of their names.
type place struct {
	created int64
	id      [16]byte
}

func placeOf(r *idem.Record) place { return place{r.Created, r.Key.ID()} }

func (p place) compare(other place) int {
	return cmp.Or(cmp.Compare(p.created, other.created), slices.Compare(p.id[:], other.id[:]))
}

// String is the cursor that stands for it.
func (p place) String() string { return fmt.Sprintf("%d-%x", p.created, p.id) }

func parsePlace(text string) (p place, err error) {
	created, id, _ := strings.Cut(text, "-")
	p.created, err = strconv.ParseInt(created, 10, 64)
	b, err2 := hex.DecodeString(id)
	if err != nil || err2 != nil || len(b) != len(p.id) {
		return p, fmt.Errorf("after %q: want what a listing gave as next", text)
	}
	p.id = [16]byte(b)
	return p, nil
}

// oldest are the oldest records that were added, as many as limit says; the youngest of
// them is on top.
type oldest struct {
	limit int
	more  bool // there were others
	all   []listed
}

type listed struct {
	place  place
	record Record
}

// Len implements heap.Interface.
func (o *oldest) Len() int { return len(o.all) }

// Less implements heap.Interface.
func (o *oldest) Less(i, j int) bool { return o.all[i].place.compare(o.all[j].place) > 0 }

// Swap implements heap.Interface.
func (o *oldest) Swap(i, j int) { o.all[i], o.all[j] = o.all[j], o.all[i] }

// Push implements heap.Interface.
func (o *oldest) Push(x any) { o.all = append(o.all, x.(listed)) } //nolint:forcetypeassert // see add

// Pop implements heap.Interface.
func (o *oldest) Pop() any {
	last := o.all[len(o.all)-1]
	o.all = o.all[:len(o.all)-1]
	return last
}

func (o *oldest) add(r *idem.Record) {
	p := placeOf(r)
	if len(o.all) == o.limit {
		o.more = true
		if o.all[0].place.compare(p) < 0 {
			return
		}
		heap.Pop(o)
	}
	heap.Push(o, listed{p, shown(r)})
}

func (o *oldest) listing() Listing {
	slices.SortFunc(o.all, func(a, b listed) int { return a.place.compare(b.place) })
	out := Listing{Keys: []Record{}, More: o.more}
	for i := range o.all {
		out.Keys = append(out.Keys, o.all[i].record)
	}
	if o.more {
		out.Next = o.all[len(o.all)-1].place.String()
	}
	return out
}

// wanted is which records a listing is about.
type wanted struct {
	state, scope string
	anyScope     bool
	after        *place
	limit        int
}

// listable are the states that can be asked for.
func listable() []string {
	return []string{idem.InProgress.String(), idem.Unknown.String(), idem.Completed.String(), idem.Expired.String()}
}

func parseWanted(q url.Values) (w wanted, err error) {
	w = wanted{state: q.Get("state"), scope: ScopeOf(q.Get("scope")), anyScope: !q.Has("scope"), limit: defaultListed}
	if text := q.Get("limit"); text != "" {
		if w.limit, err = strconv.Atoi(text); err != nil || w.limit < 1 || w.limit > maxListed {
			return w, fmt.Errorf("limit %q: want 1 to %d", text, maxListed)
		}
	}
	if w.state != "" && !slices.Contains(listable(), w.state) {
		return w, fmt.Errorf("state %q: want one of %s, or none for all", w.state, strings.Join(listable(), ", "))
	}
	if text := q.Get("after"); text != "" {
		after, err := parsePlace(text)
		if err != nil {
			return w, err
		}
		w.after = &after
	}
	return w, nil
}

func (w *wanted) is(r *idem.Record) bool {
	return (w.state == "" || r.State.String() == w.state) && (w.anyScope || r.Key.Scope() == w.scope) &&
		(w.after == nil || placeOf(r).compare(*w.after) > 0)
}

// list shows the oldest of all keys of the store, in the order of their first requests.
func (k *Keys) list(w http.ResponseWriter, r *http.Request) {
	want, err := parseWanted(r.URL.Query())
	if err != nil {
		refuse(w, http.StatusBadRequest, err)
		return
	}
	found := oldest{limit: want.limit}
	err = k.Store.List(r.Context(), func(record *idem.Record) bool {
		if want.is(record) {
			found.add(record)
		}
		return true
	})
	unread := errors.Is(err, idem.ErrUnread)
	if err != nil && !unread {
		refuse(w, statusOf(err), err)
		return
	}
	l := found.listing()
	if unread {
		l.Unread = err.Error()
	}
	answer(w, http.StatusOK, l)
}

// digested is the key that logs call so, which has a record.
func (k *Keys) digested(ctx context.Context, text string) (idem.Key, error) {
	digest, err := idem.ParseDigest(text)
	if err != nil {
		return idem.Key{}, fmt.Errorf("%w: %w", errAsked, err)
	}
	key, err := k.Store.Find(ctx, digest)
	switch {
	case errors.Is(err, idem.ErrNotFound):
		err = fmt.Errorf("%w of what the log calls key:%x", idem.ErrNotFound, digest)
	case errors.Is(err, idem.ErrGaveUp):
		err = fmt.Errorf("key:%x is %w; give the key itself, and its scope", digest, err)
	}
	return key, err
}
