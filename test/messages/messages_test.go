package messages_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// each is how many exchanges a proxy is used for.
const each = 40

// TestMessages plays exchanges that are made up, and says of the first one that breaks a
// law what the smallest one is that breaks it as well.
func TestMessages(t *testing.T) {
	t.Parallel()
	n, first := count(t, 2000), firstSeed()
	var next, exchanges atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := next.Add(1) - 1; i*each < int64(n) && !t.Failed(); i = next.Add(1) - 1 {
				exchanges.Add(campaign(t, first+uint64(i)))
			}
		})
	}
	wg.Wait()
	t.Logf("figure: %d exchanges, each with its retry, first seed %d", exchanges.Load(), first)
}

// count is MESSAGES, or so many.
func count(t *testing.T, n int) int {
	t.Helper()
	if text := os.Getenv("MESSAGES"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if testing.Short() {
		return n / 10
	}
	return n
}

// firstSeed is SEED, or another one each time.
func firstSeed() uint64 {
	if seed, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		return seed
	}
	return rand.Uint64N(1 << 40)
}

// campaign plays exchanges through one proxy.
func campaign(t *testing.T, seed uint64) (n int64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 0))
	theme := oneOf(r, kinds()...)
	choices := chosen(r, theme)
	w, err := start(settingOf(choices), patience)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer w.close()
	for i := range each {
		if t.Failed() {
			return n
		}
		pieces := draw(r, theme)
		name, why := check(w.play(compose(fmt.Sprintf("%d-%d", seed, i), pieces)))
		n++
		if name != "" && !t.Failed() {
			report(t, seed, failure{choices, pieces, name, why})
		}
	}
	return n
}

// failure is what breaks a law.
type failure struct {
	choices []choice
	pieces  []piece
	law     string
	why     string
}

// again plays it once more, with a proxy of its own.
func (f failure) again(id string) (_ failure, p *played, same bool) {
	w, err := start(settingOf(f.choices), patience/5)
	if err != nil {
		return f, nil, false
	}
	defer w.close()
	p = w.play(compose(id, f.pieces))
	name, why := check(p)
	same = name == f.law
	f.why = why
	return f, p, same
}

// without leaves one out.
func without[T any](all []T, i int) []T { return append(append([]T(nil), all[:i]...), all[i+1:]...) }

// smallest leaves out what is not needed, as long as the time for that lasts.
func (f failure) smallest() (_ failure, p *played) {
	end := time.Now().Add(patience / 2)
	serial := 0
	try := func(g failure) bool {
		serial++
		if time.Now().After(end) {
			return false
		}
		g, q, same := g.again(fmt.Sprint("smaller-", serial))
		if same {
			f, p = g, q
		}
		return same
	}
	try(f)
	for smaller := true; smaller; {
		smaller = false
		for i := len(f.pieces) - 1; i >= 0; i-- {
			g := f
			g.pieces = without(f.pieces, i)
			smaller = try(g) || smaller
		}
		for i := len(f.choices) - 1; i >= 0; i-- {
			g := f
			g.choices = without(f.choices, i)
			smaller = try(g) || smaller
		}
	}
	return f, p
}

func report(t *testing.T, seed uint64, f failure) {
	t.Helper()
	first := f.why
	f, p := f.smallest()
	var b strings.Builder
	fmt.Fprintf(&b, "SEED=%d: %s: %s\nsettings:", seed, f.law, f.why)
	for _, c := range f.choices {
		b.WriteString("\n  " + c.name)
	}
	b.WriteString("\npieces:")
	for _, one := range f.pieces {
		b.WriteString("\n  " + one.name)
	}
	if p == nil {
		t.Errorf("%s\nIt did not come again; it was %s", b.String(), first)
		return
	}
	head, pieces := p.x.reply.wire(p.x.id, p.x.method, 1)
	fmt.Fprintf(&b, "\nrequest:\n%s\nanswer of the backend:\n%s\n%d requests reached it; answers:\n  %v\n  %v\n",
		shown(p.x.text()), shown(head+strings.Join(pieces, "")), len(p.seen), p.first, p.again)
	if p.joined != nil {
		fmt.Fprintf(&b, "who joined:\n  %v\n", p.joined)
	}
	if p.next != nil {
		fmt.Fprintf(&b, "the next request:\n  %v\n", p.next)
	}
	if p.y != nil {
		fmt.Fprintf(&b, "sibling:\n%s\n  %v\n", shown(p.y.text()), p.other)
		if p.mixed != nil {
			fmt.Fprintf(&b, "meanwhile:\n  %v\n", p.mixed)
		}
	}
	t.Error(b.String())
}

// shown is a message for people.
func shown(text string) string {
	if len(text) > 1500 {
		text = text[:1500] + "..."
	}
	text = strings.ReplaceAll(fmt.Sprintf("%q", text), `\r\n`, "\\r\\n\n  ")
	return "  " + strings.ReplaceAll(text, `\"`, `"`)
}
