package token_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/idemproxy/idemproxy/token"
)

// keysAt answers for whoever serves the key set, without a network: nil is a failure.
type keysAt func() []byte

func (k keysAt) RoundTrip(r *http.Request) (*http.Response, error) {
	text := k()
	if text == nil {
		return nil, errors.New("nobody there")
	}
	return &http.Response{
		StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Request: r,
		Body: io.NopCloser(bytes.NewReader(text)),
	}, nil
}

// inBubble plays a test in a bubble of its own, in which keys come from a function.
func inBubble(t *testing.T, keys func() []byte, play func(t *testing.T)) {
	t.Helper()
	before := http.DefaultTransport
	t.Cleanup(func() { http.DefaultTransport = before })
	http.DefaultTransport = keysAt(keys)
	synctest.Test(t, play)
}

// A key that its issuer has taken back is not trusted for long, however long the tokens last that it has signed: the
// set is fetched anew within the hour, and no token is remembered for longer than five minutes beyond.
func TestAKeyThatWasTakenBackIsNotTrustedForLong(t *testing.T) { //nolint:paralleltest // it replaces the transport of all
	leaked, kept := newKey(t, "leaked"), newKey(t, "kept")
	both, one := set(t, leaked, kept), set(t, kept)
	var gone atomic.Bool
	inBubble(t, func() []byte {
		if gone.Load() {
			return one
		}
		return both
	}, func(t *testing.T) {
		v := verifier(t, token.Config{JWKS: "http://issuer.test/keys"})
		long := leaked.sign(t, valid(func(c jwt.MapClaims) { c["exp"] = time.Now().Add(48 * time.Hour).Unix() }))
		for range 12 { // somebody uses it all the time
			if _, _, err := v.Claim(long, "sub"); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		gone.Store(true)
		end := time.Now().Add(time.Hour + 5*time.Minute)
		for time.Now().Before(end) {
			_, _, _ = v.Claim(long, "sub") // until then it may be either
			time.Sleep(time.Minute)
		}
		if got, _, err := v.Claim(long, "sub"); err == nil {
			t.Errorf("%q is still trusted, an hour and five minutes after its key was taken back", got)
		}
	})
}

// Whoever serves the key set may be gone for hours: the operator hears of it, and tokens are verified as before.
func TestAKeySetThatIsGoneIsToldOf(t *testing.T) { //nolint:paralleltest // as above
	k := newKey(t, "1")
	for _, listens := range []bool{true, false} {
		text := set(t, k)
		var gone atomic.Bool
		told := make(chan error, 100)
		inBubble(t, func() []byte {
			if gone.Load() {
				return nil
			}
			return text
		}, func(t *testing.T) {
			onError := func(err error) { told <- err }
			if !listens {
				onError = nil
			}
			v, err := token.New(token.Config{JWKS: "http://user:hidden@issuer.test/keys"}, onError)
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			gone.Store(true)
			time.Sleep(3 * time.Hour)
			synctest.Wait()
			if _, _, err := v.Claim(k.sign(t, valid()), "sub"); err != nil {
				t.Errorf("a token: %v", err)
			}
		})
		close(told)
		if first := <-told; listens && (first == nil || !strings.Contains(first.Error(), "issuer.test") || strings.Contains(first.Error(), "hidden")) {
			t.Errorf("the operator was told %v", first)
		}
	}
}

// Tokens of unknown keys have the set fetched once in ten seconds, however many they are.
func TestStrangersDoNotHammer(t *testing.T) { //nolint:paralleltest // as above
	good := newKey(t, "1")
	text := set(t, good)
	var fetched atomic.Int64
	inBubble(t, func() []byte { fetched.Add(1); return text }, func(t *testing.T) {
		v := verifier(t, token.Config{JWKS: "http://issuer.test/keys"})
		for i := range 20 {
			if _, _, err := v.Claim(key{fmt.Sprint("stranger ", i), good.signer}.sign(t, valid()), "sub"); !errors.Is(err, token.ErrInvalid) {
				t.Errorf("a stranger's token: %v", err)
			}
		}
		if n := fetched.Load(); n > 2 {
			t.Errorf("the set was fetched %d times, want once at the start and once for all strangers", n)
		}
	})
}

// A key set that cannot be had leaves nothing running: a bubble with a goroutine in it does not end.
func TestAKeySetThatCannotBeHadLeavesNothing(t *testing.T) { //nolint:paralleltest // as above
	inBubble(t, func() []byte { return nil }, func(t *testing.T) {
		if v, err := token.New(token.Config{JWKS: "http://issuer.test/keys"}, nil); err == nil {
			v.Close()
			t.Error("it was taken")
		}
	})
}

// Clocks differ: by default, half a minute is allowed.
func TestHalfAMinuteIsAllowedToClocks(t *testing.T) {
	t.Parallel()
	k := newKey(t, "1")
	file := fileOf(t, set(t, k))
	synctest.Test(t, func(t *testing.T) {
		for _, again := range []bool{false, true} { // the second time out of memory
			v := verifier(t, token.Config{JWKS: file})
			raw := k.sign(t, valid(func(c jwt.MapClaims) { c["exp"] = time.Now().Add(time.Minute).Unix() }))
			if again {
				if _, _, err := v.Claim(raw, "sub"); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(time.Minute + 29*time.Second)
			if _, _, err := v.Claim(raw, "sub"); err != nil {
				t.Errorf("29 s after its end (%v): %v", again, err)
			}
			time.Sleep(1500 * time.Millisecond)
			if _, _, err := v.Claim(raw, "sub"); !errors.Is(err, token.ErrInvalid) {
				t.Errorf("30.5 s after its end (%v): %v", again, err)
			}
		}
	})
}
