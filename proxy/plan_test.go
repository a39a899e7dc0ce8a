package proxy_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/caller"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/operation"
	"github.com/idemproxy/idemproxy/proxy"
)

// names is what a route of a plan has to do with names.
type names struct {
	name, host, path string
	methods          []string
	scope, earlier   []string
	headers          []string
	key, counted     []string
	derive           bool
	bind             []string
}

type noTokens struct{}

func (noTokens) Claim(string, string) (value, issuer string, err error) { return "", "", nil }

func (n *names) rules(t *testing.T) proxy.Rules {
	t.Helper()
	scope, err := caller.ParseScope(n.scope)
	if err != nil {
		t.Fatal(err)
	}
	earlier, err := caller.ParseEarlierScopes(n.earlier)
	if err != nil {
		t.Fatal(err)
	}
	sources, err := operation.ParseSources(n.key)
	if err != nil {
		t.Fatal(err)
	}
	r := proxy.Rules{
		Key: sources, KeyMethods: n.counted,
		Scope: scope, EarlierScopes: earlier, KeyHeaders: n.headers, BindHeaders: n.bind, Tokens: noTokens{},
		Policy: idem.Policy{Retention: time.Hour, Remember: time.Minute},
	}
	if n.derive {
		r.DeriveKey = time.Minute
	}
	return r
}

// configOf has the first for the settings at large.
func configOf(t *testing.T, all ...names) *proxy.Config {
	t.Helper()
	c := &proxy.Config{Rules: all[0].rules(t)}
	for _, n := range all[1:] {
		c.Routes = append(c.Routes, proxy.Route{
			Name: n.name, Match: proxy.Match{Host: n.host, Path: n.path, Methods: n.methods}, Rules: n.rules(t),
		})
	}
	return c
}

func planOf(t *testing.T, all ...names) *proxy.Plan {
	t.Helper()
	p, err := proxy.PlanOf(configOf(t, all...))
	if err != nil {
		t.Fatal(err)
	}
	return reread(t, p)
}

// reread is the plan as another process knows it; what is not written down stays.
func reread(t *testing.T, p *proxy.Plan) *proxy.Plan {
	t.Helper()
	again, err := proxy.ParsePlan(p.Text())
	if err != nil || again.Text() != p.Text() || again.Keep() != p.Keep() {
		t.Fatalf("%v: %s", err, p.Text())
	}
	return p
}

func show(all []proxy.Orphan) string {
	lines := make([]string, 0, len(all))
	for _, o := range all {
		lines = append(lines, fmt.Sprintf("%d %s: %q to %q loses %s, set %s: %v", o.Kind, o.Witness, o.Earlier, o.Now, o.Lost, o.Setting, o.Value))
	}
	return strings.Join(lines, "\n")
}

const (
	acct   = "header:x-acct"
	tenant = "header:x-tenant"
)

// What a change of settings would lose is found, with a request that shows it and
// what to set; what loses nothing is no orphan.
func TestOrphans(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name          string
		earlier, then []names
		want          string // "" for none
	}{
		{"nothing", []names{{}}, []names{{}}, ""},
		{
			"the same in another spelling",
			[]names{{scope: []string{"header:X-Acct", "host"}, headers: []string{"A", "B"}}},
			[]names{{scope: []string{"host", acct}, headers: []string{"b", "a", "A"}}},
			"",
		},
		{
			"a scope",
			[]names{{}},
			[]names{{scope: []string{acct}}},
			`0 POST host.example/: "" to "" loses none, set earlier_scopes: [none]`,
		},
		{"a scope, looked up", []names{{}}, []names{{scope: []string{acct}, earlier: []string{"none"}}}, ""},
		{
			"another is looked up",
			[]names{{scope: []string{tenant, "host"}}},
			[]names{{scope: []string{acct}, earlier: []string{"none"}}},
			`0 POST host.example/: "" to "" loses header:x-tenant+host, set earlier_scopes: [none header:x-tenant+host]`,
		},
		{
			"looked up in any order and case",
			[]names{{scope: []string{tenant, "host"}}},
			[]names{{scope: []string{acct}, earlier: []string{"host+header:X-Tenant"}}},
			"",
		},
		{
			"what was once made otherwise is not it",
			[]names{{scope: []string{tenant}}},
			[]names{{scope: []string{acct}, earlier: []string{"v1:" + tenant}}},
			`loses header:x-tenant`,
		},
		{"no scope was always made so", []names{{}}, []names{{scope: []string{acct}, earlier: []string{"v1:none"}}}, ""},
		{
			"a route takes a part",
			[]names{{scope: []string{acct}}},
			[]names{{scope: []string{acct}}, {name: "pay", path: "/pay/*"}},
			`0 POST host.example/pay: "" to "pay" loses header:x-acct, set earlier_scopes: [header:x-acct]`,
		},
		{
			"a route goes",
			[]names{{}, {name: "pay", path: "/pay/{id}", methods: []string{"PUT"}, scope: []string{"host"}}},
			[]names{{}},
			`0 PUT host.example/pay/x: "pay" to "" loses host, set earlier_scopes: [host]`,
		},
		{"a route like all", []names{{scope: []string{acct}}}, []names{{scope: []string{acct}}, {name: "pay", path: "/pay/*", scope: []string{acct}}}, ""},
		{
			"a host",
			[]names{{}},
			[]names{{}, {name: "a", host: "*.a.example", scope: []string{acct}}},
			`0 POST x.a.example/: "" to "a" loses none, set earlier_scopes: [none]`,
		},
		{
			"hidden by more specific routes",
			[]names{{}, {name: "1", path: "/a", scope: []string{acct}}, {name: "2", path: "/a/*", scope: []string{tenant}}},
			[]names{{}, {name: "1", path: "/a", scope: []string{acct}}, {name: "3", path: "/a/{b}", scope: []string{tenant}}, {name: "2", path: "/a/*", scope: []string{tenant}}},
			"",
		},
		{
			"only between two",
			[]names{{}, {name: "1", path: "/a/{x}", scope: []string{acct}}},
			[]names{{}, {name: "2", path: "/a/*", scope: []string{acct}}, {name: "3", path: "/a/{x}", methods: []string{"POST"}}},
			`0 POST host.example/a/x: "1" to "3" loses header:x-acct, set earlier_scopes: [header:x-acct]` + "\n" +
				`0 POST host.example/a: "" to "2" loses none, set earlier_scopes: [none]`,
		},
		{
			"a method of one's own",
			[]names{{}, {name: "1", path: "/a", methods: []string{"PUT", "POST"}}},
			[]names{{}, {name: "1", path: "/a", methods: []string{"PUT", "PATCH"}, scope: []string{acct}}},
			`0 PUT host.example/a: "1" to "1" loses none, set earlier_scopes: [none]` + "\n" +
				`0 PATCH host.example/a: "" to "1" loses none, set earlier_scopes: [none]`,
		},
		{
			"only what is deep",
			[]names{{}},
			[]names{{}, {name: "1", path: "/*", scope: []string{acct}}, {name: "2", path: "/"}, {name: "3", path: "/{a}"}, {name: "4", path: "/{a}/"}},
			`0 POST host.example/x/x: "" to "1" loses none, set earlier_scopes: [none]`,
		},
		{
			"only methods that nobody named",
			[]names{{}},
			[]names{{}, {name: "1", path: "/a", scope: []string{acct}}, {name: "2", path: "/a", methods: []string{"POST", "PATCH", "WITNESS"}}},
			`0 WITNESS0 host.example/a: "" to "1" loses none, set earlier_scopes: [none]`,
		},
		{
			"a field goes",
			[]names{{headers: []string{"A", "B"}}},
			[]names{{headers: []string{"B", "C"}}},
			`1 POST host.example/: "" to "" loses a, set key_headers: [b c a]`,
		},
		{
			"two fields that carried keys do not any more: one line for both",
			[]names{{headers: []string{"A", "B"}}},
			[]names{{headers: []string{"C"}}},
			`1 POST host.example/: "" to "" loses a, b, set key_headers: [c a b]`,
		},
		{"a field comes", []names{{headers: []string{"A"}}}, []names{{headers: []string{"B", "A"}}}, ""},
		{
			"the caller, where keys are derived",
			[]names{{derive: true, bind: []string{"A"}}},
			[]names{{derive: true, bind: []string{"B"}}},
			`2 POST host.example/: "" to "" loses none, set : []`,
		},
		{"the caller, where none are", []names{{bind: []string{"A"}}}, []names{{bind: []string{"B"}}}, ""},
		{"keys are derived now", []names{{}}, []names{{derive: true}}, ""},
		{"keys are derived no more", []names{{derive: true}}, []names{{}}, `2 POST host.example/: "" to "" loses none, set : []`},
		{"no keys are derived for a PUT", []names{{derive: true}}, []names{{derive: true}, {path: "/a", methods: []string{"PUT"}}}, ""},
		{
			"keys are derived no more for a PATCH",
			[]names{{derive: true}},
			[]names{{derive: true}, {name: "1", path: "/a"}, {name: "2", path: "/a", methods: []string{"POST"}, derive: true}},
			`2 PATCH host.example/a: "" to "1" loses none, set : []`,
		},
		{
			"a derived key is looked up nowhere else",
			[]names{{derive: true}},
			[]names{{derive: true, scope: []string{acct}, earlier: []string{"none"}}},
			`2 POST host.example/: "" to "" loses none, set : []`,
		},
		{"a source comes", []names{{headers: []string{"A", "B"}}}, []names{{key: []string{"header:B", "header:A", "json:/id"}}}, ""},
		{"a source comes behind others", []names{{key: []string{"json:/id"}}}, []names{{key: []string{"json:/id", "json:/other"}}}, ""},
		{
			"a source comes before others, and has another key of the same request",
			[]names{{key: []string{"json:/id"}}},
			[]names{{key: []string{"json:/other", "json:/id"}}},
			`4 POST host.example/: "" to "" loses json:/id, set key: [json:/id json:/other]`,
		},
		{
			"sources change places",
			[]names{{key: []string{"json:/a", "header:B"}}},
			[]names{{key: []string{"header:B", "json:/a"}}},
			`4 POST host.example/: "" to "" loses json:/a, header:b, set key: [json:/a header:b]`,
		},
		{
			"a source goes",
			[]names{{key: []string{"json:/a", "json:/b"}}},
			[]names{{key: []string{"json:/a"}}},
			`4 POST host.example/: "" to "" loses json:/a, json:/b, set key: [json:/a json:/b]`,
		},
		{
			"a field carries the key only behind a source",
			[]names{{headers: []string{"A"}}},
			[]names{{key: []string{"json:/a", "header:A"}}},
			`1 POST host.example/: "" to "" loses a, set key: [header:a json:/a]`,
		},
		{
			"a prefix makes other keys",
			[]names{{key: []string{"json:/a"}}},
			[]names{{key: []string{"x=json:/a"}}},
			`4 POST host.example/: "" to "" loses json:/a, set key: [json:/a x=json:/a]`,
		},
		{"fields that must agree again", []names{{key: []string{"header:A", "header:B"}}}, []names{{headers: []string{"B", "A"}}}, ""},
		{
			"sources go",
			[]names{{key: []string{"header:A", "json:/a"}}},
			[]names{{headers: []string{"A"}}},
			`4 POST host.example/: "" to "" loses header:a, json:/a, set key: [header:a json:/a]`,
		},
		{"the same segment", []names{{}, {path: "/o/{id}", key: []string{"path:id"}}}, []names{{}, {path: "/o/{id}", key: []string{"path:2"}}}, ""},
		{
			"a method does not count any more",
			[]names{{counted: []string{"POST", "DELETE"}}},
			[]names{{counted: []string{"POST"}}},
			`5 DELETE host.example/: "" to "" loses , set key_methods: [DELETE POST]`,
		},
		{
			"only some methods count",
			[]names{{}},
			[]names{{counted: []string{"POST"}}},
			`5 PATCH host.example/: "" to "" loses , set : []`,
		},
		{"all methods count", []names{{counted: []string{"POST"}}}, []names{{}}, ""},
		{
			"what did not count is not lost",
			[]names{{counted: []string{"PUT"}, headers: []string{"A"}}},
			[]names{{counted: []string{"PUT"}, headers: []string{"A"}}, {name: "1", path: "/a", methods: []string{"POST"}, headers: []string{"B"}}},
			"",
		},
	} {
		got := show(planOf(t, c.then...).Orphans(planOf(t, c.earlier...)))
		if got != c.want && (c.want == "" || !strings.Contains(got, c.want) || strings.Contains(c.want, "\n")) {
			t.Errorf("%s: found\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
}

// Patterns that would swallow the words that witnesses are made of.
func TestOrphansOfOddNames(t *testing.T) {
	t.Parallel()
	odd := []names{
		{},
		{name: "h", host: "*.example", scope: []string{tenant}},
		{name: "i", host: "host.example", scope: []string{tenant}},
		{name: "j", host: "*.x.test", scope: []string{tenant}},
		{name: "k", host: "x.test", path: "/x/x0/*", scope: []string{tenant}},
		{name: "l", path: "/x", scope: []string{tenant}},
		{name: "m", path: "/{a}/x", methods: []string{"POST", "WITNESS"}, scope: []string{tenant}},
	}
	then := slices.Clone(odd)
	then[0].scope = []string{acct}
	got := planOf(t, then...).Orphans(planOf(t, odd...))
	if len(got) != 1 || got[0].Now != "" || got[0].Witness.String() != "POST host.example0/" {
		t.Errorf("found\n%s", show(got))
	}
}

// pick draws one of some.
func pick[T any](r *rand.Rand, some ...T) T { return some[r.IntN(len(some))] }

func randomNames(r *rand.Rand) (all []names) {
	for i := range 1 + r.IntN(5) {
		n := names{
			name: fmt.Sprint(i), host: pick(r, "", "", "a.test", "*.test", "*.a.test", "b.a.test"),
			path:    pick(r, "", "/*", "/", "/a", "/a/", "/a/*", "/{p}", "/{p}/b", "/a/{p}", "/{p}/*", "/a/b/*", "/a/{p}/*"),
			methods: pick(r, nil, nil, []string{"POST"}, []string{"PUT"}, []string{"POST", "PUT"}),
			scope:   pick(r, nil, nil, []string{acct}, []string{tenant, "host"}),
			earlier: pick(r, nil, nil, []string{"none"}, []string{acct, "none"}),
			headers: pick(r, nil, nil, []string{"A"}), derive: r.IntN(6) == 0, bind: pick(r, nil, []string{"B"}),
		}
		if i == 0 {
			n.host, n.path, n.methods = "", "", nil
		}
		all = append(all, n)
	}
	return all
}

// namer takes requests the way that a server does.
type namer struct {
	all    []names
	sorted []proxy.Route
}

func newNamer(t *testing.T, all []names) (*namer, bool) {
	t.Helper()
	n := &namer{all, configOf(t, all...).Routes}
	return n, proxy.SortRoutes(n.sorted) == nil
}

func (n *namer) of(method, host, path string) *names {
	if i := proxy.RouteAt(n.sorted, method, host, path); i >= 0 {
		for j := range n.all[1:] {
			if n.all[1+j].name == n.sorted[i].Name {
				return &n.all[1+j]
			}
		}
	}
	return &n.all[0]
}

// loses says by itself whether a record of a request would not be found.
func loses(was, is *names, method string) bool {
	text := func(scope []string) string {
		if len(scope) == 0 {
			return "none"
		}
		return strings.Join(slices.Sorted(slices.Values(scope)), "+")
	}
	carried := func(n *names) string {
		if n.headers == nil {
			return "idempotency-key"
		}
		return n.headers[0]
	}
	same := text(was.scope) == text(is.scope)
	derives := was.derive && (method == "POST" || method == "PATCH")
	return !same && !slices.Contains(is.earlier, text(was.scope)) || carried(was) != carried(is) ||
		derives && (!is.derive || !same || !slices.Equal(was.bind, is.bind))
}

// Two random plans: if any random request is named otherwise by the second one,
// orphans are found, and each witness is one indeed. A plan orphans nothing of
// itself, whatever the order of its routes.
func TestOrphansOfRandomPlans(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(14, 2))
	compared, lost := 0, 0
	for range 3000 {
		was, is := randomNames(r), randomNames(r)
		if r.IntN(2) == 0 { // mostly alike
			is = slices.Clone(was)
			if i := r.IntN(len(is)); i > 0 {
				is = slices.Delete(is, i, i+1)
			} else {
				is[0].scope = pick(r, nil, []string{acct})
			}
		}
		before, ok := newNamer(t, was)
		now, ok2 := newNamer(t, is)
		if !ok || !ok2 {
			continue // two routes that match the same
		}
		earlier, then := planOf(t, was...), planOf(t, is...)
		orphans := then.Orphans(earlier)
		for _, o := range orphans {
			w := o.Witness
			if !loses(before.of(w.Method, w.Host, w.Path), now.of(w.Method, w.Host, w.Path), w.Method) {
				t.Fatalf("%v\n%v\n%s is none", was, is, show([]proxy.Orphan{o}))
			}
		}
		compared++
		for range 60 {
			method, host := pick(r, "POST", "PUT", "PATCH", "GET"), pick(r, "a.test", "b.a.test", "c.a.test", "x.test", "test", "c.d.test", "q")
			path := pick(r, "/", "/a", "/b", "/a/", "/a/b", "/b/a", "/a/b/", "/a/c/d", "/b/b", "/b/b/b", "/a/b/c/d/e", "/c/d/")
			if loses(before.of(method, host, path), now.of(method, host, path), method) {
				lost++
				if len(orphans) == 0 {
					t.Fatalf("%v\n%v\n%s %s%s is an orphan, and was not found", was, is, method, host, path)
				}
				break
			}
		}
		reordered := slices.Clone(was)
		r.Shuffle(len(reordered)-1, func(i, j int) { reordered[1+i], reordered[1+j] = reordered[1+j], reordered[1+i] })
		if again := planOf(t, reordered...); again.Text() != earlier.Text() || len(again.Orphans(earlier)) > 0 {
			t.Fatalf("reordered:\n%s\n%s", again.Text(), earlier.Text())
		}
	}
	if compared < 1000 || lost < 300 || lost > compared-300 {
		t.Errorf("%d plans were compared, of which %d lose something: too few of a kind", compared, lost)
	}
}

// A record is one of the orphans if its scope is made of the same sources.
func TestOrphanMayBe(t *testing.T) {
	t.Parallel()
	const next = "\x1f"
	for _, c := range []struct {
		earlier names
		scope   string
		want    bool
	}{
		{names{}, "", true},
		{names{}, "header:x-acct=7", false},
		{names{scope: []string{acct}}, "header:x-acct=7=8", true},
		{names{scope: []string{acct}}, "", false},
		{names{scope: []string{acct}}, "header:x-tenant=7", false},
		{names{scope: []string{acct}}, "\x1ederived\x1fheader:x-acct=7", false},
		{names{scope: []string{"host", acct}}, "header:x-acct=7" + next + "host=a", true},
		{names{scope: []string{"host", acct}}, "header:x-acct=7", false},
		{names{scope: []string{"claim:a=b"}}, "claim:a%3Db@https://issuer=7", true},
		{names{scope: []string{"claim:sub"}}, "claim:sub=7", true},
		{names{scope: []string{"claim:sub"}}, "claim:tenant=7", false},
		{names{derive: true}, "\x1ederived\x1f", true},
	} {
		o := planOf(t, names{scope: []string{"header:other"}, earlier: map[bool][]string{true: {"none"}}[c.earlier.derive]}).Orphans(planOf(t, c.earlier))
		if len(o) != 1 {
			t.Fatalf("%v: %s", c.earlier, show(o))
		}
		if got := o[0].MayBe(c.scope); got != c.want {
			t.Errorf("%v: a record in scope %q may be one: %v, want %v", c.earlier, c.scope, got, c.want)
		}
	}
}

// What another release wrote, or nobody, is no plan.
func TestParsePlan(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "{}", `{"v":2,"keep":1,"routes":[]}`, `{"v":3,"keep":1,"routes":[{"key_headers":["a"]}]}`,
		`{"v":2,"keep":1,"routes":[{"key_headers":["a"],"more":1}]}`, `{"v":2,"keep":1,"routes":[{"path":"x","key_headers":["a"]},{"key_headers":["a"]}]}`,
		`{"v":2,"keep":1,"routes":[{"path":"/x","key_headers":["a"]}]}`,
	} {
		if p, err := proxy.ParsePlan(text); err == nil {
			t.Errorf("%s is %s", text, p.Text())
		}
	}
}
