package messages_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/proxy"
)

// shared is a route, and which scripts of other origins may use it; nil: that is the
// backend's affair.
type shared struct {
	methods []string
	cors    *proxy.CORS
}

func (s shared) route(i int) proxy.Route {
	r := proxy.Route{Name: fmt.Sprint("route", i), Match: proxy.Match{Methods: s.methods, Path: "/p"}, Rules: proxy.Rules{Policy: idem.DefaultPolicy()}}
	if s.cors != nil {
		r.Rules.CORS = *s.cors
	}
	return r
}

func (s shared) String() string { return fmt.Sprintf("%v: %+v", s.methods, s.cors) }

const page = "https://page.example"

// verbs are those that routes and scripts have.
func verbs() []string { return []string{"GET", "HEAD", "POST", "PUT", "DELETE"} }

// someRoutes give each method to one of a few routes.
func someRoutes(r *rand.Rand) (all []shared) {
	for range 1 + r.IntN(3) {
		one := shared{}
		if r.IntN(5) > 0 {
			one.cors = &proxy.CORS{
				Origins:     oneOf(r, []string{page}, []string{page}, []string{"*"}, []string{"https://other.example"}),
				Methods:     oneOf(r, verbs(), []string{"GET"}, []string{"*"}, []string{"POST", "PUT"}, []string{"GET", "DELETE"}),
				Headers:     oneOf(r, nil, []string{"X-Own"}, []string{"*"}),
				MaxAge:      oneOf(r, 0, time.Minute, time.Hour),
				Credentials: r.IntN(2) == 0,
			}
			one.cors.Credentials = one.cors.Credentials && one.cors.Origins[0] != "*"
		}
		all = append(all, one)
	}
	for _, m := range verbs() {
		one := &all[r.IntN(len(all))]
		one.methods = append(one.methods, m)
	}
	return slices.DeleteFunc(all, func(s shared) bool { return len(s.methods) == 0 })
}

// permits says whether scripts of the page may send such a request, by what the operator has
// said. Reading is a part of every permission.
func permits(all []shared, method, headers string) (is bool, c *proxy.CORS) {
	for _, s := range all {
		if c = s.cors; !slices.Contains(s.methods, method) || c == nil {
			continue
		}
		origin := slices.Contains(c.Origins, page) || slices.Contains(c.Origins, "*")
		uses := slices.Contains(c.Methods, method) || slices.Contains(c.Methods, "*")
		own := !strings.Contains(headers, "x-own") || slices.Contains(c.Headers, "X-Own") || slices.Contains(c.Headers, "*")
		return origin && uses && own, c
	}
	return false, nil
}

// TestPermits asks as browsers do before scripts may send something. What a browser
// remembers of the answers never permits what the operator has not permitted, nor for longer.
func TestPermits(t *testing.T) {
	t.Parallel()
	n, first := count(t, 150), firstSeed()
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := worker; i < n/3 && !t.Failed(); i += 8 {
				permitted(t, first+uint64(i))
			}
		})
	}
	wg.Wait()
}

// permitted asks about one set of routes.
func permitted(t *testing.T, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	routes := someRoutes(r)
	w, err := start(&setting{maxResponse: 1 << 20, maxBuffered: 256 << 20, routes: routes}, patience)
	if err != nil {
		t.Error(err)
		return
	}
	defer w.close()
	for i := range 30 {
		method, headers := oneOf(r, verbs()...), oneOf(r, "", "content-type", "x-own", "idempotency-key,x-own")
		if why := w.preflight(fmt.Sprintf("%d-%d", seed, i), method, headers); why != "" {
			t.Errorf("SEED=%d: %s is asked for, with headers %q: %s; routes:\n%v", seed, method, headers, why, routes)
			return
		}
	}
}

// preflight says what is wrong with the answer to one.
func (w *world) preflight(id, method, headers string) string {
	x := basic(id)
	x.method = "OPTIONS"
	x.add("Origin", page)
	x.add("Access-Control-Request-Method", method)
	if headers != "" {
		x.add("Access-Control-Request-Headers", headers)
	}
	w.origin.expect(x)
	defer w.origin.forget(id)
	a := w.ask(x, nil)
	is, c := permits(w.routes, method, headers)
	origin := a.header.Get("Access-Control-Allow-Origin")
	allowed := a.err == nil && a.status/100 == 2 && (origin == page || origin == "*") && lists(a, "Methods", method)
	switch {
	case c == nil: // the backend, which is not asked about here, says nothing
		return ""
	case allowed != is:
		return fmt.Sprintf("permitted: %t, and it was answered with %v", is, a)
	case !allowed:
		return ""
	}
	age, _ := strconv.Atoi(a.header.Get("Access-Control-Max-Age"))
	if age < 1 {
		return ""
	}
	for _, other := range verbs() {
		simple := other == "GET" || other == "HEAD" || other == "POST"
		if !simple && !lists(a, "Methods", other) {
			continue
		}
		may, by := permits(w.routes, other, headers)
		if by != nil && (other == "GET" || other == "HEAD") { // who may send others may send these
			reads := *by
			reads.Methods = []string{"*"}
			may, _ = permits([]shared{{[]string{other}, &reads}}, other, headers)
		}
		if !may || age > int(by.MaxAge/time.Second) || c.Credentials && !by.Credentials {
			return fmt.Sprintf("a browser sends %s for %d s, which is not permitted (%+v); the answer was %v", other, age, by, a)
		}
	}
	return ""
}

// lists says whether a list of an answer has a word, or any.
func lists(a *answer, name, word string) bool {
	for one := range strings.SplitSeq(a.header.Get("Access-Control-Allow-"+name), ",") {
		if one = strings.TrimSpace(one); one == word || one == "*" {
			return true
		}
	}
	return false
}
