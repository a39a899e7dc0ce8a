// Usage: go run retry.go URL KEY BODY
package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"time"
)

var again = map[int]bool{409: true, 425: true, 429: true, 500: true, 502: true, 503: true, 504: true}

// post uses one key for the operation, the same on each try.
func post(url, key, body string) (status int, text string, err error) {
	client := http.Client{Timeout: 10 * time.Second}
	for n := range 6 {
		if n > 0 {
			time.Sleep(time.Duration((0.5 + rand.Float64()/2) * float64(100*time.Millisecond<<n)))
		}
		req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
		if err != nil {
			return 0, "", err
		}
		req.Header.Set("Idempotency-Key", key)
		req.Header.Set("Content-Type", "application/json")
		var resp *http.Response
		if resp, err = client.Do(req); err != nil {
			continue // no answer: it may have been executed, which the key takes care of
		}
		b, readErr := io.ReadAll(resp.Body)
		resp.Body.Close()
		status, text = resp.StatusCode, string(b)
		if readErr == nil && !again[status] {
			return status, text, nil
		}
	}
	return status, text, err
}

func main() {
	status, text, err := post(os.Args[1], os.Args[2], os.Args[3])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(status, text)
}
