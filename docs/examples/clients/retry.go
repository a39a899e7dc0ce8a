// Usage: go run retry.go URL KEY BODY
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

func mayRetry(resp *http.Response, body []byte) bool {
	if resp.Header.Get("Idempotent-Replayed") == "true" {
		return false // a stored answer is the outcome, whatever its status
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/problem+json") {
		var problem struct{ Retryable *bool }
		if json.Unmarshal(body, &problem) == nil && problem.Retryable != nil {
			return *problem.Retryable // the proxy knows
		}
	}
	switch resp.StatusCode {
	case 408, 425, 429, 502, 503, 504:
		return true
	}
	return false
}

// once makes one try, and says how long to wait before another one, if that makes sense.
func once(client *http.Client, url, key, body string) (status int, text string, again bool, after time.Duration, err error) {
	req, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return 0, "", false, 0, err
	}
	req.Header.Set("Idempotency-Key", key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return 0, "", true, 0, err // no answer: it may have been executed, which the key takes care of
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, "", true, 0, err // likewise: half an answer
	}
	seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
	return resp.StatusCode, string(b), mayRetry(resp, b), time.Duration(seconds) * time.Second, nil
}

// post uses one key for the operation, the same on each try.
func post(url, key, body string) (int, string, error) {
	client := &http.Client{Timeout: 30 * time.Second}
	for n := 0; ; n++ {
		status, text, again, after, err := once(client, url, key, body)
		if !again || n == 5 {
			return status, text, err
		}
		wait := time.Duration((0.5 + rand.Float64()/2) * float64(200*time.Millisecond<<n))
		time.Sleep(max(wait, after))
	}
}

func main() {
	status, text, err := post(os.Args[1], os.Args[2], os.Args[3])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(status, text)
}
