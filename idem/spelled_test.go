package idem_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/idemproxy/idemproxy/idem"
)

// Configurations, logs and dashboards are made of these words: each is there, and stays.
func TestWordsAreKept(t *testing.T) {
	t.Parallel()
	var causes, endings, parts []string
	for _, c := range idem.ReleaseCauses() {
		causes = append(causes, c.String())
	}
	for e := idem.Open; e <= idem.Deferred; e++ {
		endings = append(endings, e.String())
		if e.Means() == "" {
			t.Errorf("%v means %q", e, e.Means())
		}
	}
	for p := idem.PartIdentity; p <= idem.PartBody; p <<= 1 {
		parts = append(parts, p.String())
	}
	for name, c := range map[string]struct{ got, want []string }{
		"causes":  {causes, []string{"nothing-sent", "try-again", "ambiguous", "not-kept", "voided"}},
		"endings": {endings, []string{"open", "stored", "released", "held", "lost", "deferred"}},
		"parts":   {parts, []string{"identity", "payload", "method", "target", "headers", "body"}},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("the %s are %q, want %q", name, c.got, c.want)
		}
	}
	for word, want := range map[string]idem.Ambiguity{
		"release": idem.AmbiguousRelease, "hold": idem.AmbiguousHold, "settle": idem.AmbiguousSettle,
	} {
		got := idem.Ambiguity(99)
		if err := got.UnmarshalText([]byte(word)); err != nil || got != want {
			t.Errorf("%q is %v, %v", word, got, err)
		}
		if text, err := want.MarshalText(); err != nil || string(text) != word {
			t.Errorf("%v is written %q, %v", want, text, err)
		}
		if want.Holds() != (word != "release") {
			t.Errorf("%s holds: %v", word, want.Holds())
		}
	}
	var a idem.Ambiguity
	if err := a.UnmarshalText([]byte("Hold")); err == nil {
		t.Error("an unknown word was taken")
	}
}

// What is said of an ending before it happens is what happens.
func TestWouldIsWhatFinishDoes(t *testing.T) {
	t.Parallel()
	for _, policy := range []idem.Ambiguity{idem.AmbiguousRelease, idem.AmbiguousHold, idem.AmbiguousSettle} {
		for sent := idem.MayHaveExecuted; sent <= idem.Voided; sent++ {
			for _, status := range []int{200, 429, 502} {
				bubble(t, func(r *rig) {
					r.policy.OnAmbiguous = policy
					response := &idem.Response{Status: status}
					would := r.policy.Would(sent, response)
					if end := r.mustBegin("k").Finish(sent, response); end != would {
						r.Errorf("%v, %v, %d: %v, and %v was said", policy, sent, status, end, would)
					}
					want := idem.Stored
					switch ambiguous := sent == idem.MayHaveExecuted || sent == idem.Answered && status == 502; {
					case ambiguous && policy.Holds():
						want = idem.Held
					case ambiguous, sent == idem.NothingSent, sent == idem.Voided, sent == idem.Answered && status == 429:
						want = idem.Released
					}
					if would != want {
						r.Errorf("%v, %v, %d: %v, want %v", policy, sent, status, would, want)
					}
				})
			}
		}
	}
}

// stamp is a codec that shows what it was given.
type stamp struct{ fails error }

func (s stamp) Seal(k idem.Key, r *idem.Response) (*idem.Response, error) {
	return &idem.Response{Status: r.Status, Sealed: true, Body: append([]byte(k.Value()+":"), r.Body...)}, s.fails
}

func (s stamp) Open(k idem.Key, r *idem.Response) (*idem.Response, error) {
	return &idem.Response{Status: r.Status, Body: r.Body[len(k.Value())+1:]}, s.fails
}

// What was sealed is opened; what was not is given out as it is; and nobody without the
// means to open it takes it for a response.
func TestResponsesAtRest(t *testing.T) {
	t.Parallel()
	k, err := idem.ParseKey("k")
	if err != nil {
		t.Fatal(err)
	}
	plain := ok()
	sealed, err := idem.SealResponse(stamp{}, k, plain)
	if err != nil || string(sealed.Body) != "k:ok" || string(plain.Body) != "ok" {
		t.Fatalf("sealed: %+v, %v", sealed, err)
	}
	if r, err := idem.OpenResponse(stamp{}, k, sealed); err != nil || string(r.Body) != "ok" {
		t.Errorf("opened: %+v, %v", r, err)
	}
	if r, err := idem.OpenResponse(nil, k, sealed); r != nil || !errors.Is(err, idem.ErrSealed) {
		t.Errorf("opened without a codec: %+v, %v", r, err)
	}
	for _, codec := range []idem.Codec{nil, stamp{}} {
		if r, err := idem.OpenResponse(codec, k, plain); err != nil || r != plain {
			t.Errorf("what was not sealed: %+v, %v", r, err)
		}
		for _, f := range []func(idem.Codec, idem.Key, *idem.Response) (*idem.Response, error){idem.SealResponse, idem.OpenResponse} {
			if r, err := f(codec, k, nil); err != nil || r != nil {
				t.Errorf("nothing: %+v, %v", r, err)
			}
		}
	}
	if r, err := idem.SealResponse(nil, k, plain); err != nil || r != plain {
		t.Errorf("without a codec: %+v, %v", r, err)
	}
	errFails := errors.New("so it was planned")
	if _, err := idem.SealResponse(stamp{errFails}, k, plain); !errors.Is(err, errFails) {
		t.Errorf("sealing fails: %v", err)
	}
	if _, err := idem.OpenResponse(stamp{errFails}, k, sealed); !errors.Is(err, errFails) {
		t.Errorf("opening fails: %v", err)
	}
}
