package proxy

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/valyala/fasthttp"

	"github.com/idemproxy/idemproxy/idem"
)

// asked is a request as hashes are made of it: what is asked for, and by whom.
// Its bytes belong to the request.
type asked struct {
	header      *fasthttp.RequestHeader
	scheme      []byte // http or https, as far as this proxy knows
	host        []byte // canonical
	target      []byte // path and query
	body        []byte
	certificate *x509.Certificate // nil for none
}

// recipe is how fingerprints and bindings are made. A record names its recipe, so
// that it can be compared by it after the settings have changed.
type recipe struct {
	id          idem.Recipe
	text        string
	fingerprint *Fingerprint
	bind        []string // sorted, in lower case
	secret      *secret
}

// recipeVersion counts the ways of hashing what a recipe names; 1 is in legacy.go.
const recipeVersion = 2

// recipeText is a recipe written down. The order of its fields is part of the
// text, and so of every id.
type recipeText struct {
	Version     int      `json:"v"`
	Fingerprint []string `json:"fingerprint"`
	Bind        []string `json:"bind"`
	Secret      string   `json:"secret,omitempty"` // its id
}

// recipeOf is the recipe of a route's settings.
func (r *Rules) recipeOf(s *secret) recipe {
	c := recipe{fingerprint: r.Fingerprint, bind: bindNames(r.BindHeaders), secret: s}
	text := recipeText{Version: recipeVersion, Fingerprint: c.fingerprint.names(), Bind: c.bind}
	if s != nil {
		text.Secret = s.id
	}
	written, _ := json.Marshal(text) //nolint:gosec // strings and a number, which cannot fail; the secret by its id only
	c.text, c.id = string(written), recipeID(string(written))
	return c
}

// recipeID names a recipe in records.
func recipeID(text string) idem.Recipe {
	sum := sha256.Sum256([]byte(text))
	if id := idem.Recipe(binary.BigEndian.Uint32(sum[:])); id != idem.LegacyRecipe {
		return id
	}
	return 1
}

// parseRecipe reads what recipeOf wrote, be it another release.
func parseRecipe(text string, secrets map[string]*secret) (*recipe, error) {
	var t recipeText
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&t); err != nil {
		return nil, fmt.Errorf("the recipe %q: %w", text, err)
	}
	if t.Version != recipeVersion {
		return nil, fmt.Errorf("the recipe %q: version %d is not known here", text, t.Version)
	}
	s, known := secrets[t.Secret]
	if !known {
		return nil, fmt.Errorf("the recipe %q: its secret is not configured any more", text)
	}
	f, err := ParseFingerprint(t.Fingerprint)
	if err != nil {
		return nil, fmt.Errorf("the recipe %q: %w", text, err)
	}
	return &recipe{id: recipeID(text), text: text, fingerprint: f, bind: bindNames(t.Bind), secret: s}, nil
}

// of makes the request's hashes.
func (c *recipe) of(q *asked) (idem.Fingerprint, idem.Binding) {
	return c.secret.fingerprint(c.fingerprint.of(q)), c.secret.binding(q.caller(c.bind))
}

// recipes finds the recipes that records name: those of the routes, and earlier
// ones, whose texts somebody else keeps.
type recipes struct {
	current *secret // for what is made now
	secrets map[string]*secret
	text    func(idem.Recipe) (string, bool) // nil: none are known

	mu     sync.Mutex
	parsed map[idem.Recipe]*recipe // guarded by mu
}

func newRecipes(c *Config) *recipes {
	r := &recipes{current: newSecret(c.Secret), text: c.Recipes}
	r.secrets = newSecrets(append([][]byte{c.Secret}, c.EarlierSecrets...))
	return r
}

// maxParsed bounds the recipes that are kept ready; settings change seldom.
const maxParsed = 64

// earlier is a recipe that no route has any more, nil if it is not known.
func (r *recipes) earlier(id idem.Recipe) *recipe {
	if r.text == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.parsed[id]; c != nil {
		return c
	}
	text, ok := r.text(id)
	if !ok || recipeID(text) != id {
		return nil
	}
	c, err := parseRecipe(text, r.secrets)
	if err != nil {
		return nil // not known, whatever the reason: its records fail closed
	}
	if r.parsed == nil || len(r.parsed) >= maxParsed {
		r.parsed = map[idem.Recipe]*recipe{}
	}
	r.parsed[id] = c
	return c
}

// under makes the request's hashes by the recipe of the record that it is to be
// compared with, and says whether it can. See idem.Request.
func (id *identity) under(name idem.Recipe) (idem.Fingerprint, idem.Binding, bool) {
	return id.hash(&id.asked, name)
}

// hashes are the request's by its route's own recipe.
func (id *identity) hashes() (idem.Fingerprint, idem.Binding) {
	c := &id.rules.recipe
	return c.secret.fingerprint(c.fingerprint.of(&id.asked)), c.secret.binding(id.caller)
}

// hash makes the hashes of q by a recipe, and says whether that is known.
func (id *identity) hash(q *asked, name idem.Recipe) (f idem.Fingerprint, b idem.Binding, known bool) {
	if name == idem.LegacyRecipe {
		f, b = id.rules.legacy(q)
		return f, b, true
	}
	c := id.live.recipe(name)
	if c == nil {
		return f, b, false
	}
	f, b = c.of(q)
	return f, b, true
}

// recipe is one of a route, or an earlier one; nil if it is not known.
func (l *live) recipe(name idem.Recipe) *recipe {
	if c := l.own[name]; c != nil {
		return c
	}
	return l.recipes.earlier(name)
}

// recipesOf are those of all routes, with every secret that is configured.
func (r *recipes) recipesOf(all []*Rules) map[idem.Recipe]*recipe {
	own := map[idem.Recipe]*recipe{}
	for _, rules := range all {
		for _, s := range r.secrets {
			c := rules.recipeOf(s)
			own[c.id] = &c
		}
	}
	return own
}

// all are the rules of every route, those at large included.
func (r *routes) all() []*Rules {
	all := []*Rules{r.rest}
	for i := range r.sorted {
		all = append(all, &r.sorted[i].Rules)
	}
	return all
}

// RecipeTexts are the recipes by which the server makes records now, of all
// routes: what a later process must know to compare with those records. Keep them
// for as long as there may be such a record, and hand them over by
// Config.Recipes.
func (s *Server) RecipeTexts() map[idem.Recipe]string {
	texts := map[idem.Recipe]string{}
	for _, rules := range s.live.Load().routes.all() {
		texts[rules.recipe.id] = rules.recipe.text
	}
	return texts
}

// names are the fingerprint's parts as recipes have them.
func (f *Fingerprint) names() []string {
	if f == nil {
		f = &defaultFingerprint
	}
	return slices.Clone(f.parts)
}
