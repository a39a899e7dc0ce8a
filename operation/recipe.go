package operation

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/message"
)

// Digest is a whole SHA-256. Records keep the first half of one.
type Digest = [sha256.Size]byte

// Asked is a request as hashes are made of it. Its bytes belong to the request.
type Asked struct {
	Head   *message.Head
	Scheme []byte // http or https, as far as this proxy knows
	Host   []byte // canonical
	Target []byte // path and query
	Body   []byte
	// Most bounds what Body becomes when its content codings are undone.
	Most int

	undone undone
}

// Who says who asks, by the fields that bind names, which are sorted and in lower
// case; Legacy as they are spelled in the settings, for idem.LegacyRecipe.
type Who interface {
	By(bind []string) Digest
	Legacy(bind []string) Digest
}

// Recipe is how fingerprints and bindings are made. A record names its recipe, so
// that it can be compared by it after the settings have changed.
type Recipe struct {
	ID   idem.Recipe
	Text string
	// Bind are the fields that say who asks, sorted, in lower case.
	Bind []string
	// Receipts names the endpoint that settles what these records leave in doubt, empty
	// for none: see ReceiptsName.
	Receipts    string
	fingerprint *Fingerprint
	spelled     []string // Bind as in the settings
	secret      *Secret
}

// recipeVersion counts the ways of hashing what a recipe names; 1 is in legacy.go. What
// is hashed in the same way as in version 2 is still called that, so that earlier releases
// know it.
const (
	recipeVersion  = 3
	earlierVersion = 2
)

// recipeText is a recipe written down. The order of its fields is part of the
// text, and so of every id.
type recipeText struct {
	Version     int      `json:"v"`
	Fingerprint []string `json:"fingerprint"`
	Bind        []string `json:"bind"`
	Secret      string   `json:"secret,omitempty"` // its id
	Receipts    string   `json:"receipts,omitempty"`
}

// ReceiptsName is what recipes call an endpoint: a digest, since its URL may have a
// secret in it.
func ReceiptsName(url string) string {
	if url == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(url))
	return hex.EncodeToString(sum[:8])
}

// NewRecipe is the recipe of a route's settings; receipts is a ReceiptsName.
func NewRecipe(f *Fingerprint, bind []string, receipts string, s *Secret) Recipe {
	c := Recipe{fingerprint: f, Bind: bindNames(bind), Receipts: receipts, spelled: bind, secret: s}
	text := recipeText{Version: f.version(), Fingerprint: f.names(), Bind: c.Bind, Receipts: receipts}
	if s != nil {
		text.Secret = s.id
	}
	written, _ := json.Marshal(text) //nolint:gosec // strings and a number, which cannot fail; the secret by its id only
	c.Text, c.ID = string(written), RecipeID(string(written))
	return c
}

// bindNames are bind headers in the one order and spelling that is hashed.
func bindNames(headers []string) []string {
	names := make([]string, len(headers))
	for i, h := range headers {
		names[i] = strings.ToLower(h)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// RecipeID names a recipe in records, by its text.
func RecipeID(text string) idem.Recipe {
	sum := sha256.Sum256([]byte(text))
	if id := idem.Recipe(binary.BigEndian.Uint32(sum[:])); id != idem.LegacyRecipe {
		return id
	}
	return 1
}

// parseRecipe reads what recipeOf wrote, be it another release.
func parseRecipe(text string, secrets map[string]*Secret) (*Recipe, error) {
	var t recipeText
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&t); err != nil {
		return nil, fmt.Errorf("the recipe %q: %w", text, err)
	}
	if t.Version != recipeVersion && t.Version != earlierVersion {
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
	if t.Version == earlierVersion {
		if was := f.before(); was != nil {
			f = was
		}
	}
	if f.version() != t.Version {
		return nil, fmt.Errorf("the recipe %q: version %d has no such parts", text, t.Version)
	}
	c := NewRecipe(f, t.Bind, t.Receipts, s)
	c.Text, c.ID = text, RecipeID(text)
	return &c, nil
}

// Hashes are the request's. bound is who asks by Bind.
func (c *Recipe) Hashes(q *Asked, bound Digest) idem.Hashes {
	sum, sums := c.fingerprint.of(q)
	return idem.Hashes{Fingerprint: c.secret.fingerprint(sum), Binding: c.secret.binding(bound), Hints: c.secret.hints(sums)}
}

// legacy are the request's hashes by version 1, made by the route's present
// settings, since such records do not say by which they were made.
func (c *Recipe) legacy(q *Asked, who Who) idem.Hashes {
	return idem.Hashes{
		Fingerprint: c.secret.fingerprint(c.fingerprint.legacy(q)), Binding: c.secret.binding(who.Legacy(c.spelled)),
	}
}

// Recipes finds the recipes that records name: those of the routes, and earlier
// ones, whose texts somebody else keeps. It is safe for concurrent use.
type Recipes struct {
	current *Secret // for what is made now
	secrets map[string]*Secret
	text    func(idem.Recipe) (string, bool) // nil: none are known

	mu     sync.Mutex
	parsed map[idem.Recipe]*Recipe // guarded by mu
}

// NewRecipes has hashes made with a secret, and compared with what earlier ones
// made; nil for none. text gives the text of a recipe that no route has.
func NewRecipes(secret []byte, earlier [][]byte, text func(idem.Recipe) (string, bool)) *Recipes {
	return &Recipes{current: NewSecret(secret), text: text, secrets: NewSecrets(append([][]byte{secret}, earlier...))}
}

// Secret is what hashes are made with now; nil for none.
func (r *Recipes) Secret() *Secret { return r.current }

// Own adds what a route's settings make with each secret that is configured.
func (r *Recipes) Own(own map[idem.Recipe]*Recipe, f *Fingerprint, bind []string, receipts string) {
	for _, s := range r.secrets {
		c := NewRecipe(f, bind, receipts, s)
		own[c.ID] = &c
		if was := f.before(); was != nil { // of records from before version 3
			c := NewRecipe(was, bind, receipts, s)
			own[c.ID] = &c
		}
	}
}

// Hash makes the hashes of q by the recipe of a record that it is to be compared
// with, and says whether that is known. own are those of all routes, route is the
// request's own.
func (r *Recipes) Hash(
	own map[idem.Recipe]*Recipe, route *Recipe, name idem.Recipe, q *Asked, who Who,
) (by idem.Hashes, known bool) {
	if name == idem.LegacyRecipe {
		return route.legacy(q, who), true
	}
	c := r.Find(own, name)
	if c == nil {
		return idem.Hashes{}, false
	}
	return c.Hashes(q, who.By(c.Bind)), true
}

// Binding is who asks, by the recipe of a record; zero for a request that has no value in
// any of the fields that the recipe names, and no certificate: all of those are one
// caller. known is false if the recipe is not known here.
func (r *Recipes) Binding(
	own map[idem.Recipe]*Recipe, route *Recipe, name idem.Recipe, who Who,
) (b idem.Binding, known bool) {
	if name == idem.LegacyRecipe {
		return route.secret.binding(who.Legacy(route.spelled)), true
	}
	c := r.Find(own, name)
	if c == nil {
		return b, false
	}
	return c.secret.binding(who.By(c.Bind)), true
}

// Find is the recipe that a record names, nil if it is not known. own are those of all
// routes.
func (r *Recipes) Find(own map[idem.Recipe]*Recipe, name idem.Recipe) *Recipe {
	if c := own[name]; c != nil {
		return c
	}
	return r.earlier(name)
}

// maxParsed bounds the recipes that are kept ready; settings change seldom.
const maxParsed = 64

// earlier is a recipe that no route has any more, nil if it is not known.
func (r *Recipes) earlier(id idem.Recipe) *Recipe {
	if r.text == nil {
		return nil
	}
	r.mu.Lock()
	c := r.parsed[id]
	r.mu.Unlock()
	if c != nil {
		return c
	}
	text, ok := r.text(id) // without mu: it may have to ask somebody
	if !ok || RecipeID(text) != id {
		return nil
	}
	c, err := parseRecipe(text, r.secrets)
	if err != nil {
		return nil // not known, whatever the reason: its records fail closed
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.parsed == nil || len(r.parsed) >= maxParsed {
		r.parsed = map[idem.Recipe]*Recipe{}
	}
	r.parsed[id] = c
	return c
}
