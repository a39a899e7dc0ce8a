package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"

	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/idem"
)

// scenario is one kind of attack.
type scenario struct {
	name, about string
	rate        int                    // requests a second, unless told otherwise
	duration    time.Duration          // likewise
	proxy       func(c *config.Config) // how the proxy that is started for it differs
	pacer       func(rate int, d time.Duration) vegeta.Pacer
	chaos       bool // faults on every wire, while it runs; needs a proxy of its own
	prepare     func(a *attack) error
	next        func(a *attack, t *vegeta.Target)
	// allowed are the statuses that this attack may be answered with.
	allowed []int
	// most is how often a key may execute: once, but for what policy allows.
	most int
}

//nolint:funlen // a table
func scenarios() []scenario {
	return []scenario{
		{
			name: "unique", about: "every request has a key of its own",
			rate: 2000, duration: 10 * time.Second, allowed: []int{200}, most: 1,
			next: func(a *attack, t *vegeta.Target) { a.request(t, "/", a.key(a.n.Add(1)), "amount=5") },
		},
		{
			name: "hit", about: "one completed key, replayed",
			rate: 5000, duration: 10 * time.Second, allowed: []int{200}, most: 1, prepare: once("hot"),
			next: func(a *attack, t *vegeta.Target) { a.request(t, "/", a.prefix+"hot", "amount=5") },
		},
		{
			name: "contention", about: "one key on a slow backend, everybody at once",
			rate: 2000, duration: 10 * time.Second, allowed: []int{200, 409}, most: 1,
			next: func(a *attack, t *vegeta.Target) { a.request(t, "/slow?d=2s", a.prefix+"contended", "amount=5") },
		},
		{
			name: "mismatch", about: "one completed key, used with other payloads",
			rate: 2000, duration: 10 * time.Second, allowed: []int{422}, most: 1, prepare: once("reused"),
			next: func(a *attack, t *vegeta.Target) {
				a.request(t, "/", a.prefix+"reused", "amount="+strconv.FormatInt(a.n.Add(1)+5, 10))
			},
		},
		{
			name: "mixed", about: "keys by Zipf's law, a tenth of them retried at once, a hundredth with another payload",
			rate: 2000, duration: 10 * time.Second, allowed: []int{200, 409, 422}, most: 1,
			next: mixed,
		},
		{
			name: "cold", about: "a thousand completed keys, replayed from the store: the local cache holds nothing",
			rate: 2000, duration: 10 * time.Second, allowed: []int{200}, most: 1, prepare: thousand,
			proxy: func(c *config.Config) { c.CacheSize = 1 },
			next: func(a *attack, t *vegeta.Target) {
				n := a.n.Add(1) % coldKeys
				a.request(t, "/", a.key(n), "amount=5")
			},
		},
		{
			name: "burst", about: "new keys, and in the middle fifth of the time ten times as many",
			rate: 300, duration: 10 * time.Second, allowed: []int{200}, most: 1, pacer: burst,
			next: func(a *attack, t *vegeta.Target) { a.request(t, "/", a.key(a.n.Add(1)), "amount=5") },
		},
		{
			name: "soak", about: "mixed, for half an hour",
			rate: 500, duration: 30 * time.Minute, allowed: []int{200, 409, 422}, most: 1, next: mixed,
		},
		{
			name: "chaos", about: "each key three times, while the wires to backend and Redis are cut, slowed and reset; " +
				"held when in doubt, so that none may execute twice",
			rate: 300, duration: 20 * time.Second, allowed: []int{200, 409, 500, 502, 503, 504}, most: 1, chaos: true,
			proxy: func(c *config.Config) {
				shortLease(c)
				c.OnAmbiguous, c.BackendTimeout = idem.AmbiguousHold, 2*time.Second
			},
			next: func(a *attack, t *vegeta.Target) { a.request(t, "/", a.key(a.n.Add(1)/3), "amount=5") },
		},
		{
			name: "slow", about: "jobs longer than their lease: the watchdog under load",
			rate: 100, duration: 10 * time.Second, proxy: shortLease, allowed: []int{200}, most: 1,
			next: func(a *attack, t *vegeta.Target) { a.request(t, "/slow?d=3s", a.key(a.n.Add(1)), "amount=5") },
		},
	}
}

func find(name string) (scenario, error) {
	names := ""
	for _, s := range scenarios() {
		if s.name == name {
			return s, nil
		}
		names += fmt.Sprintf("\n  %-12s %s", s.name, s.about)
	}
	return scenario{}, fmt.Errorf("there is no scenario %q; there are%s", name, names)
}

func shortLease(c *config.Config) {
	c.LockTTL, c.Heartbeat, c.StoreTimeout = time.Second, 300*time.Millisecond, 400*time.Millisecond
}

const coldKeys = 1000

func thousand(a *attack) error {
	for n := range int64(coldKeys) {
		if err := once(strconv.FormatInt(n, 10))(a); err != nil {
			return err
		}
	}
	return nil
}

// burstPacer asks for ten times the rate in the middle fifth.
type burstPacer struct {
	rate  int
	total time.Duration
}

func burst(rate int, d time.Duration) vegeta.Pacer { return burstPacer{rate, d} }

// hits is how many requests are due by elapsed.
func (p burstPacer) hits(elapsed time.Duration) float64 {
	from, to := p.total*2/5, p.total*3/5
	base := float64(p.rate) * elapsed.Seconds()
	return base + 9*float64(p.rate)*max(0, min(elapsed, to).Seconds()-from.Seconds())
}

// Pace implements vegeta.Pacer.
func (p burstPacer) Pace(elapsed time.Duration, hits uint64) (time.Duration, bool) {
	if elapsed >= p.total {
		return 0, true
	}
	if float64(hits) < p.hits(elapsed) {
		return 0, false
	}
	return time.Duration(float64(time.Second) / p.Rate(elapsed)), false
}

// Rate implements vegeta.Pacer.
func (p burstPacer) Rate(elapsed time.Duration) float64 {
	if elapsed >= p.total*2/5 && elapsed < p.total*3/5 {
		return 10 * float64(p.rate)
	}
	return float64(p.rate)
}

// String implements vegeta.Pacer.
func (p burstPacer) String() string { return fmt.Sprintf("burst{%d/s, then ten times that}", p.rate) }

// once executes a key before the attack.
func once(name string) func(a *attack) error {
	return func(a *attack) error {
		var t vegeta.Target
		a.request(&t, "/", a.prefix+name, "amount=5")
		req, err := t.Request()
		if err != nil {
			return fmt.Errorf("preparing %s: %w", name, err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return fmt.Errorf("preparing %s: %w", name, err)
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("preparing %s: the target answers %s", name, resp.Status)
		}
		return nil
	}
}

func mixed(a *attack, t *vegeta.Target) {
	n := a.zipf()
	body := fmt.Sprintf("amount=%d", n)
	switch r := rand.IntN(100); { //nolint:gosec // not a secret
	case r == 0:
		body += "&other=1"
	case r <= 10:
		if last := a.last.Load(); last != 0 {
			n = last
			body = fmt.Sprintf("amount=%d", n)
		}
	}
	a.last.Store(n)
	a.request(t, "/", a.key(n), body)
}

// attack is a scenario under way.
type attack struct {
	target string
	prefix string // of keys, so that runs do not meet each other's records
	n      atomic.Int64
	last   atomic.Int64
	zipf   func() int64
	keys   *keySet
}

func (a *attack) key(n int64) string { return a.prefix + strconv.FormatInt(n, 10) }

func (a *attack) request(t *vegeta.Target, path, key, body string) {
	t.Method = http.MethodPost
	t.URL = a.target + path
	t.Body = []byte(body)
	t.Header = http.Header{"Idempotency-Key": {key}}
	a.keys.add(key)
}
