package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// scenario is one kind of attack.
type scenario struct {
	name, about string
	rate        int           // requests a second, unless told otherwise
	duration    time.Duration // likewise
	lockTTL     time.Duration // of the proxy that is started for it
	prepare     func(a *attack) error
	next        func(a *attack, t *vegeta.Target)
	// allowed are the statuses that this attack may be answered with.
	allowed []int
	// most is how often a key may execute: once, but for what policy allows.
	most int
}

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
			name: "slow", about: "jobs longer than their lease: the watchdog under load",
			rate: 100, duration: 10 * time.Second, lockTTL: time.Second, allowed: []int{200}, most: 1,
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
