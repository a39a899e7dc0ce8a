package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// keySet is the keys that were sent.
type keySet struct {
	mu   sync.Mutex
	keys map[string]struct{} // guarded by mu
}

func (k *keySet) add(key string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.keys[key] = struct{}{}
}

// verdict is what the backend says of them.
type verdict struct {
	Keys       int      `json:"keys"`
	Executions int      `json:"executions"`
	Violations []string `json:"violations"` // keys that executed more often than allowed
}

// check asks the backend how often each key executed. It does so by count: the
// counter of the backend that runs here, or over HTTP.
func (k *keySet) check(count func(key string) (int, error), most int) (verdict, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	v := verdict{Keys: len(k.keys)}
	for key := range k.keys {
		n, err := count(key)
		if err != nil {
			return v, err
		}
		v.Executions += n
		if n > most {
			v.Violations = append(v.Violations, fmt.Sprintf("%s: %d executions", key, n))
		}
	}
	return v, nil
}

// remoteCount asks a demo backend elsewhere.
func remoteCount(base string) func(key string) (int, error) {
	client := &http.Client{Timeout: 10 * time.Second}
	return func(key string) (int, error) {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet,
			base+"/executions?key="+url.QueryEscape(key), nil)
		if err != nil {
			return 0, fmt.Errorf("counting: %w", err)
		}
		resp, err := client.Do(req)
		if err != nil {
			return 0, fmt.Errorf("counting: %w", err)
		}
		defer func() { _ = resp.Body.Close() }()
		var c struct {
			Started *int `json:"started"`
		}
		if err := json.NewDecoder(resp.Body).Decode(&c); err != nil || c.Started == nil {
			return 0, fmt.Errorf("%s does not count executions as the demo backend does: %w", base, err)
		}
		return *c.Started, nil
	}
}
