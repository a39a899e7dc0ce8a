package token_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/idemproxy/idemproxy/token"
)

// The bounds that docs/contract.md has: the set is fetched every hour, a signature is
// remembered for five minutes, clocks may differ by half a minute.
const (
	fetchedWithin = time.Hour + 5*time.Minute
	clocksDiffer  = 30 * time.Second
)

// issuer publishes and takes back keys as time goes on.
type issuer struct {
	mu    sync.Mutex
	keys  []key
	since []time.Time // guarded by mu; when each was published, or taken back
	out   []bool      // guarded by mu; it is published
	told  []byte      // guarded by mu; the set
}

func (i *issuer) turn(t *testing.T, n int) {
	t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.out[n], i.since[n] = !i.out[n], time.Now()
	var some []key
	for n, k := range i.keys {
		if i.out[n] {
			some = append(some, k)
		}
	}
	i.told = set(t, some...)
}

func (i *issuer) publish() []byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.told
}

// issued is a token.
type issued struct {
	raw           string
	by            int
	begins, until time.Time
}

// TestTrustOverTime lets days go by in which keys are published and taken back, and tokens
// are issued, used and end, all at random: no token is trusted for longer than all of that
// allows, and one that everything speaks for is trusted.
func TestTrustOverTime(t *testing.T) { //nolint:paralleltest // it replaces the transport of all
	seed, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64N(1 << 40)
	}
	i := &issuer{}
	for n := range 4 {
		i.keys = append(i.keys, newKey(t, fmt.Sprint("key-", n)))
	}
	for n := range 20 {
		r := rand.New(rand.NewPCG(seed+uint64(n), 0))
		i.out, i.since = make([]bool, 4), make([]time.Time, 4)
		i.told = set(t, i.keys...)
		inBubble(t, i.publish, func(t *testing.T) {
			for n := range i.keys {
				i.turn(t, n)
			}
			if why := i.days(t, r); why != "" {
				t.Errorf("SEED=%d: %s", seed+uint64(n), why)
			}
		})
		if t.Failed() {
			return
		}
	}
}

// days lets them go by, and says which token was judged wrongly.
func (i *issuer) days(t *testing.T, r *rand.Rand) string {
	t.Helper()
	v := verifier(t, token.Config{JWKS: "http://issuer.test/keys"})
	var all []issued
	var events strings.Builder
	for range 150 {
		switch r.IntN(8) {
		case 0:
			n := r.IntN(len(i.keys))
			i.turn(t, n)
			fmt.Fprintf(&events, "\n%s: key %d published: %t", clock(), n, i.out[n])
		case 1, 2:
			one := issued{by: r.IntN(len(i.keys)), until: time.Now().Add(time.Duration(r.Int64N(int64(48 * time.Hour)))).Truncate(time.Second)}
			if r.IntN(4) == 0 {
				one.begins = time.Now().Add(time.Duration(r.Int64N(int64(time.Hour)))).Truncate(time.Second)
			}
			one.raw = i.keys[one.by].sign(t, valid(func(c jwt.MapClaims) {
				c["exp"], c["jti"] = one.until.Unix(), r.Int64()
				if !one.begins.IsZero() {
					c["nbf"] = one.begins.Unix()
				}
			}))
			all = append(all, one)
		case 3, 4:
			time.Sleep(time.Duration(r.Int64N(int64(90 * time.Minute))))
		default:
			time.Sleep(time.Duration(r.Int64N(int64(2 * time.Minute))))
		}
		if len(all) == 0 {
			continue
		}
		one := all[r.IntN(len(all))]
		_, _, err := v.Claim(one.raw, "sub")
		if must, may := i.judge(&one); err != nil && must || err == nil && !may {
			return fmt.Sprintf("%s: a token of key %d, from %v until %v: %v; may be trusted: %t%s",
				clock(), one.by, one.begins, one.until, err, may, events.String())
		}
	}
	return ""
}

func clock() string { return time.Now().Format("02 15:04:05") }

// judge says whether a token must be trusted, and whether it may be.
func (i *issuer) judge(one *issued) (must, may bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := time.Now()
	out, stands := i.out[one.by], now.Sub(i.since[one.by]) > fetchedWithin
	in := now.Before(one.until) && !now.Before(one.begins)
	nearly := now.Before(one.until.Add(clocksDiffer+time.Second)) && !now.Before(one.begins.Add(-clocksDiffer-time.Second))
	return in && out && stands, nearly && (out || !stands)
}
