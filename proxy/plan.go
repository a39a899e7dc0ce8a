package proxy

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/idemproxy/idemproxy/caller"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/operation"
)

// Plan is how a server names records: which route a request takes, and there, in
// which fields its key is looked for, into which scope it is put, and what a key
// is derived from. Written down beside the records, it tells a later server
// whether that one finds them: see [Plan.Orphans].
type Plan struct {
	routes []plannedRoute // in the order in which they are tried; the last takes all the rest
	keep   time.Duration
	// recipes are how records are compared, not how they are named; not written down.
	recipes map[idem.Recipe]string
	// secret is the id of what hashes are made with, empty for none; secrets are those
	// that records can be compared by, which is not written down.
	secret  string
	secrets map[string]*operation.Secret
}

// plannedRoute is what names records on one route. The order of its fields is part
// of a plan's text, and so of its name.
type plannedRoute struct {
	Name       string   `json:"name,omitempty"`
	Host       string   `json:"host,omitempty"`
	Path       string   `json:"path,omitempty"`
	Methods    []string `json:"methods,omitempty"`
	Scope      []string `json:"scope,omitempty"`
	KeyHeaders []string `json:"key_headers"`
	// Key are the sources of keys in their order; then KeyHeaders does not count.
	Key []string `json:"key,omitempty"`
	// KeyMethods are the methods whose keys count; empty for all.
	KeyMethods []string `json:"key_methods,omitempty"`
	// Derived is the recipe that keys are derived by, empty where none are.
	Derived string `json:"derived,omitempty"`

	match   Match
	earlier []string // further scopes under which keys are looked up; not written down
}

// planVersion is that of a plan's text.
const planVersion = 2

type planText struct {
	Version int            `json:"v"`
	Keep    int64          `json:"keep"` // seconds
	Secret  string         `json:"secret,omitempty"`
	Routes  []plannedRoute `json:"routes"`
}

// ErrPlan is a text that is no plan that this build can read.
var ErrPlan = errors.New("plan of names")

// PlanOf is the plan of a server with that configuration.
func PlanOf(c *Config) (*Plan, error) {
	r, err := newRoutes(c, operation.NewSecret(c.Secret))
	if err != nil {
		return nil, err
	}
	p := &Plan{keep: r.rest.keeps(), recipes: map[idem.Recipe]string{}}
	p.secret = operation.NewSecret(c.Secret).ID()
	p.secrets = operation.NewSecrets(append([][]byte{c.Secret}, c.EarlierSecrets...))
	for _, rules := range r.all() {
		p.recipes[rules.recipe.ID] = rules.recipe.Text
	}
	for i := range r.sorted {
		route := &r.sorted[i]
		p.keep = max(p.keep, route.Rules.keeps())
		p.routes = append(p.routes, planned(route.Name, route.Match, &route.Rules))
	}
	p.routes = append(p.routes, planned("", Match{}, r.rest))
	p.sort()
	return p, nil
}

// keeps is how long a completed key of the route is known, unless its backend asks
// for more.
func (r *Rules) keeps() time.Duration { return r.Policy.Retention + r.Policy.Remember }

func planned(name string, m Match, r *Rules) plannedRoute {
	one := plannedRoute{
		Name: name, Host: strings.ToLower(m.Host), Path: m.Path, Methods: slices.Sorted(slices.Values(m.Methods)),
		Key: r.Key.Texts(), KeyMethods: slices.Compact(slices.Sorted(slices.Values(r.KeyMethods))),
	}
	for _, s := range r.Scope {
		one.Scope = append(one.Scope, s.String())
	}
	slices.Sort(one.Scope)
	for _, h := range r.KeyHeaders {
		if one.Key != nil {
			break
		}
		one.KeyHeaders = append(one.KeyHeaders, strings.ToLower(h))
	}
	slices.Sort(one.KeyHeaders)
	one.KeyHeaders = slices.Compact(one.KeyHeaders)
	if r.DeriveKey > 0 {
		one.Derived = r.recipe.Text
	}
	for _, e := range r.EarlierScopes {
		if sources, plain := e.Sources(); !plain || len(sources) == 0 {
			one.earlier = append(one.earlier, scopeText(sourceTexts(sources)))
		}
	}
	return one
}

func sourceTexts(sources []caller.Source) (all []string) {
	for _, s := range sources {
		all = append(all, s.String())
	}
	slices.Sort(all)
	return all
}

// scopeText is a scope as earlier_scopes spells it.
func scopeText(sources []string) string {
	if len(sources) == 0 {
		return "none"
	}
	return strings.Join(sources, "+")
}

// sort puts the routes in the order in which they are tried, and those of which
// none can come before another in one that does not depend on the configuration.
func (p *Plan) sort() {
	for i := range p.routes {
		r := &p.routes[i]
		r.match = Match{Host: r.Host, Path: r.Path, Methods: r.Methods}
	}
	tried := p.routes[:len(p.routes)-1]
	slices.SortStableFunc(tried, func(a, b plannedRoute) int {
		return cmp.Or(a.match.compare(&b.match), slices.Compare(a.Methods, b.Methods))
	})
}

// Keep is how long completed keys may be known by this plan, counted from their
// completion, unless a backend asks for more.
func (p *Plan) Keep() time.Duration { return p.keep }

// Recipes are the texts of the recipes by which a server of PlanOf's configuration
// makes records: what Server.RecipeTexts says of one that runs.
func (p *Plan) Recipes() map[idem.Recipe]string { return maps.Clone(p.recipes) }

// Same says whether two plans name, look up and compare alike.
func (p *Plan) Same(o *Plan) bool {
	return p.Text() == o.Text() && maps.Equal(p.recipes, o.recipes) &&
		slices.Equal(slices.Sorted(maps.Keys(p.secrets)), slices.Sorted(maps.Keys(o.secrets))) && slices.EqualFunc(p.routes, o.routes,
		func(a, b plannedRoute) bool { return slices.Equal(a.earlier, b.earlier) })
}

// Text is the plan written down: the same for plans that name alike.
func (p *Plan) Text() string {
	// Strings and a number: it cannot fail.
	text, _ := json.Marshal(planText{ //nolint:gosec // the secret's id, which tells nothing of it
		Version: planVersion, Keep: int64(p.keep / time.Second), Secret: p.secret, Routes: p.routes,
	})
	return string(text)
}

// ParsePlan reads what Text wrote, be it in another process. What is no plan, or
// one of a later release, is ErrPlan.
func ParsePlan(text string) (*Plan, error) {
	var t planText
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&t); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPlan, err)
	}
	if t.Version != planVersion || len(t.Routes) == 0 {
		return nil, fmt.Errorf("%w: version %d with %d routes is not known here", ErrPlan, t.Version, len(t.Routes))
	}
	p := &Plan{routes: t.Routes, keep: time.Duration(t.Keep) * time.Second, secret: t.Secret}
	p.sort()
	for i := range p.routes {
		if err := p.routes[i].match.check(); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrPlan, err)
		}
	}
	if last := p.routes[len(p.routes)-1]; last.Host != "" || last.Path != "" || len(last.Methods) != 0 {
		return nil, fmt.Errorf("%w: its last route does not take all the rest", ErrPlan)
	}
	return p, nil
}

// take is the route that a request takes; path is decoded.
func (p *Plan) take(w *Witness) int {
	host, method, path := []byte(w.Host), []byte(w.Method), []byte(w.Path)
	return slices.IndexFunc(p.routes, func(r plannedRoute) bool { return r.match.matches(host, method, path) })
}

// Witness is a request that shows something. Its path is decoded.
type Witness struct {
	Method, Host, Path string
}

// String is the request as people write it.
func (w Witness) String() string { return w.Method + " " + w.Host + w.Path }

// OrphanKind says by which change records are not found any more.
type OrphanKind uint8

// The kinds.
const (
	// OrphanScope: the key is put into another scope.
	OrphanScope OrphanKind = iota
	// OrphanHeader: a field that carried the key does not any more.
	OrphanHeader
	// OrphanDerived: a request without a key is given another one, or none.
	OrphanDerived
	// OrphanSecret: the record is found, but nobody can tell whether a request is the
	// same, since the secret that it was hashed with is not there any more.
	OrphanSecret
	// OrphanKey: what carried the key does not any more, or only after something else.
	OrphanKey
	// OrphanMethod: a method's keys do not count any more.
	OrphanMethod
)

// Orphan is a kind of records that would not be found any more.
type Orphan struct {
	Kind OrphanKind
	// Witness is a request whose record would not.
	Witness Witness
	// Earlier and Now are the names of the routes that it took and takes; empty for
	// the settings at large.
	Earlier, Now string
	// Setting and Value are what to set on route Now so that they are found; empty if
	// nothing would do.
	Setting string
	Value   []string
	// Lost is what names records no more: a scope, or a field.
	Lost string

	scope []string // of the records
}

// Orphans are the records of an earlier plan that a server with this one would not
// find, so that their requests would be executed again: one of each kind, scope
// and pair of routes. Nil: it finds all.
//
// Whether two routes have a request in common is decided by trying requests that
// are matched by as few patterns as any request that both match: if none of them
// takes the two, no request does.
func (p *Plan) Orphans(earlier *Plan) (all []Orphan) {
	if _, known := p.secrets[earlier.secret]; !known {
		all = append(all, Orphan{Kind: OrphanSecret, Setting: "secret_file", Lost: earlier.secret})
	}
	fresh := newFresh(p, earlier)
	for i := range earlier.routes {
		for j := range p.routes {
			lost := p.routes[j].loses(&earlier.routes[i])
			if len(lost) == 0 {
				continue
			}
			for _, w := range fresh.witnesses(&earlier.routes[i].match, &p.routes[j].match) {
				if len(lost) == 0 {
					break
				}
				if earlier.take(&w) != i || p.take(&w) != j {
					continue
				}
				lost = slices.DeleteFunc(lost, func(o Orphan) bool {
					shows := p.routes[j].shows(&earlier.routes[i], o.Kind, w.Method)
					if shows {
						o.Witness = w
						all = append(all, o)
					}
					return shows
				})
			}
		}
	}
	return all
}

// Covers says whether all that an earlier plan named is named the same by this one,
// without a look at any earlier scope: what is true of this one's names is then
// true of the earlier one's.
func (p *Plan) Covers(earlier *Plan) bool {
	bare := &Plan{routes: slices.Clone(p.routes), secrets: map[string]*operation.Secret{p.secret: nil}}
	for i := range bare.routes {
		bare.routes[i].earlier = nil
	}
	return len(bare.Orphans(earlier)) == 0
}

// loses says which records of an earlier route are not found on this one.
func (r *plannedRoute) loses(earlier *plannedRoute) (lost []Orphan) {
	was := scopeText(earlier.Scope)
	found := Orphan{Earlier: earlier.Name, Now: r.Name, scope: earlier.Scope}
	sameScope := slices.Equal(earlier.Scope, r.Scope)
	if !sameScope && !slices.Contains(r.earlier, was) {
		o := found
		o.Kind, o.Lost, o.Setting, o.Value = OrphanScope, was, "earlier_scopes", append(slices.Clone(r.earlier), was)
		lost = append(lost, o)
	}
	if o, is := r.losesKeys(earlier, found); is {
		lost = append(lost, o)
	}
	if len(r.KeyMethods) > 0 { // shows says whether any is lost
		o := found
		o.Kind = OrphanMethod
		if len(earlier.KeyMethods) > 0 {
			o.Setting, o.Value = "key_methods", behind(earlier.KeyMethods, r.KeyMethods)
		}
		lost = append(lost, o)
	}
	if earlier.Derived != "" && (earlier.Derived != r.Derived || !sameScope) {
		o := found
		o.Kind, o.Lost = OrphanDerived, was
		lost = append(lost, o)
	}
	return lost
}

// MayBe says whether a record in that scope may be one of the orphans: its scope
// is made of the same sources.
func (o *Orphan) MayBe(scope string) bool {
	if o.Kind == OrphanSecret {
		return true // whatever its scope
	}
	rest, derived := operation.IsDerived(scope)
	if derived != (o.Kind == OrphanDerived) || operation.IsMarker(scope) {
		return false
	}
	want := make([]string, 0, len(o.scope))
	for _, s := range o.scope {
		want = append(want, caller.Encoded(s))
	}
	slices.Sort(want)
	return slices.Equal(caller.SourcesOf(rest), want)
}
