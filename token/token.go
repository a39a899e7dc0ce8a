// Package token verifies JSON Web Tokens (RFC 7519), so that a claim of theirs
// can partition the keys. It knows no HTTP server and no store; keys come from a
// JSON Web Key Set (RFC 7517), a file or a URL. The cryptography is golang-jwt's.
package token

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
	"github.com/maypok86/otter/v2"
	"golang.org/x/time/rate"

	"github.com/idemproxy/idemproxy/internal/redact"
)

// ErrInvalid is a token that nobody should trust: malformed, expired, not yet
// valid, for somebody else, signed by no key of the set, or not at all.
var ErrInvalid = errors.New("the token is not valid")

// MaxBytes is the longest token that is looked at.
const MaxBytes = 8 << 10

// Config says which tokens are trusted. JWKS is required.
type Config struct {
	// JWKS is the file or the http(s) URL of the key set. A URL is fetched again
	// every hour, and when a token names a key that is not there.
	JWKS string
	// Issuer and Audience, if set, must be those of the token.
	Issuer, Audience string
	// Leeway is how far clocks may differ. Default 30 s.
	Leeway time.Duration
}

// Verifier verifies tokens. It is safe for concurrent use.
type Verifier struct {
	parser *jwt.Parser
	keys   jwt.Keyfunc
	leeway time.Duration
	known  *otter.Cache[[sha256.Size]byte, verified]
	stop   context.CancelFunc
}

// verified is a token whose signature was checked.
type verified struct {
	claims jwt.MapClaims
	until  time.Time
}

// knownTokens is how many verified tokens are remembered: a signature costs tens
// of microseconds, and clients send the same token again and again.
const knownTokens = 10_000

// rememberedFor bounds how long a signature is not looked at again: a key that
// was taken out of the set is not trusted much longer.
const rememberedFor = 5 * time.Minute

// New reads the key set. A set that cannot be had is an error, so that a wrong
// address is found at the start; later failures to fetch it go to onError, which
// may be nil, and leave the keys as they were. Close the verifier.
func New(c Config, onError func(error)) (*Verifier, error) {
	ctx, stop := context.WithCancel(context.Background())
	v := &Verifier{leeway: c.Leeway, stop: stop}
	if v.leeway == 0 {
		v.leeway = 30 * time.Second
	}
	keys, err := keySet(ctx, c.JWKS, onError)
	if err != nil {
		stop()
		return nil, err
	}
	v.keys = keys.Keyfunc
	options := []jwt.ParserOption{
		jwt.WithExpirationRequired(), jwt.WithLeeway(v.leeway),
		// No "none", and no HMAC: a key set is public.
		jwt.WithValidMethods([]string{
			"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
		}),
	}
	if c.Issuer != "" {
		options = append(options, jwt.WithIssuer(c.Issuer))
	}
	if c.Audience != "" {
		options = append(options, jwt.WithAudience(c.Audience))
	}
	v.parser = jwt.NewParser(options...)
	v.known = otter.Must(&otter.Options[[sha256.Size]byte, verified]{MaximumSize: knownTokens})
	return v, nil
}

// refreshUnknown is how often, at most, a token with an unknown key has the set
// fetched anew. Other such tokens do not wait for that: they are invalid.
const refreshUnknown = 10 * time.Second

func keySet(ctx context.Context, where string, onError func(error)) (keyfunc.Keyfunc, error) {
	if strings.HasPrefix(where, "http://") || strings.HasPrefix(where, "https://") {
		keys, err := keyfunc.NewDefaultOverrideCtx(ctx, []string{where}, keyfunc.Override{
			Client: &http.Client{Timeout: 10 * time.Second}, HTTPTimeout: 10 * time.Second,
			NoErrorReturnFirstHTTPReq: new(bool),
			RefreshUnknownKID:         rate.NewLimiter(rate.Every(refreshUnknown), 1),
			RateLimitWaitMax:          50 * time.Millisecond, // by default, strangers' requests may hang for a minute
			RefreshErrorHandlerFunc: func(string) func(context.Context, error) {
				return func(_ context.Context, err error) {
					if onError != nil {
						onError(fmt.Errorf("the key set at %s: %w", redact.URL(where), redact.Error(err, where)))
					}
				}
			},
		})
		if err != nil {
			return nil, fmt.Errorf("the key set at %s: %w", redact.URL(where), redact.Error(err, where))
		}
		return keys, nil
	}
	text, err := os.ReadFile(where) //nolint:gosec // the operator names it
	if err != nil {
		return nil, fmt.Errorf("the key set: %w", redact.Error(err, where))
	}
	keys, err := keyfunc.NewJWKSetJSON(json.RawMessage(text))
	if err != nil {
		return nil, fmt.Errorf("the key set in %s: %w", redact.Place(where), err)
	}
	return keys, nil
}

// Claim verifies the token and returns one of its claims, a string or a whole
// number, and who issued it (iss), empty if it does not say. A token that cannot
// be trusted is ErrInvalid, and so is one without the claim.
func (v *Verifier) Claim(raw, name string) (claim, issuer string, err error) {
	claims, err := v.verify(raw)
	if err != nil {
		return "", "", err
	}
	if issuer, err = claims.GetIssuer(); err != nil {
		return "", "", fmt.Errorf("%w: its issuer is no text", ErrInvalid)
	}
	switch value := claims[name].(type) {
	case string:
		if value != "" {
			return value, issuer, nil
		}
	case float64:
		if value == float64(int64(value)) && value >= 0 && value < 1<<53 {
			return fmt.Sprint(int64(value)), issuer, nil
		}
	}
	return "", "", fmt.Errorf("%w: its claim %q is missing, or neither a string nor a whole number", ErrInvalid, name)
}

func (v *Verifier) verify(raw string) (jwt.MapClaims, error) {
	if len(raw) > MaxBytes {
		return nil, fmt.Errorf("%w: it has more than %d bytes", ErrInvalid, MaxBytes)
	}
	sum := sha256.Sum256([]byte(raw))
	if k, ok := v.known.GetIfPresent(sum); ok && time.Now().Before(k.until) {
		return k.claims, nil
	}
	claims := jwt.MapClaims{}
	if _, err := v.parser.ParseWithClaims(raw, claims, v.keys); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if expires, err := claims.GetExpirationTime(); err == nil && expires != nil {
		until := time.Now().Add(rememberedFor)
		if end := expires.Add(v.leeway); end.Before(until) {
			until = end
		}
		v.known.Set(sum, verified{claims: claims, until: until})
	}
	return claims, nil
}

// Close ends the fetching of the key set.
func (v *Verifier) Close() { v.stop() }
