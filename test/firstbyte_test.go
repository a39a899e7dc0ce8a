package test_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/internal/dbtest"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// TestFirstByteOfStores says how long the first byte of a stream takes with a key and
// without one, for each store, and how long the store took to acquire the key, which must be
// done before anything is forwarded. FIRST_BYTE is the number of requests of each kind; without
// it the test has a few, which say nothing. See docs/streams.md.
func TestFirstByteOfStores(t *testing.T) {
	many := 3
	if n, err := strconv.Atoi(os.Getenv("FIRST_BYTE")); err == nil {
		many = n
	}
	for name, store := range map[string]func(*testing.T) string{
		"embedded": func(t *testing.T) string { return "embedded:" + t.TempDir() },
		"redis":    func(t *testing.T) string { return redistest.Start(t).URL() },
		"postgres": func(t *testing.T) string { return dbtest.StartPostgres(t).URL("postgres") },
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, "--store", store(t), "--backend", newOrigin(t).url(), "--stream-responses")
			took := map[string][]time.Duration{}
			headers := []string{"Idempotency-Key", "Not-Idempotency"}
			for i := range many {
				rand.Shuffle(len(headers), func(i, j int) { headers[i], headers[j] = headers[j], headers[i] })
				for _, header := range headers {
					took[header] = append(took[header], p.firstByte(header, fmt.Sprint("key-", i)))
				}
			}
			keyed, keyless := took["Idempotency-Key"], took["Not-Idempotency"]
			t.Logf("%d of each: %.2f times as long with a key (median); on average %v with a key, %v without, and acquiring it alone took %v",
				many, float64(medianOf(keyed))/float64(medianOf(keyless)), averageOf(keyed), averageOf(keyless), p.acquiring(many))
		})
	}
}

// firstByte is how long that of a stream takes.
func (p *process) firstByte(header, value string) time.Duration {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, p.url+"/events?n=2&d=2ms", http.NoBody)
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set(header, value)
	begun := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if _, err := io.ReadFull(resp.Body, make([]byte, 1)); err != nil {
		p.t.Fatal(err)
	}
	took := time.Since(begun)
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		p.t.Fatal(err)
	}
	return took
}

func medianOf(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

func averageOf(all []time.Duration) time.Duration {
	sum := time.Duration(0)
	for _, one := range all {
		sum += one
	}
	return (sum / time.Duration(len(all))).Round(time.Microsecond)
}

// acquiring is how long the store took on average for each of so many keys.
func (p *process) acquiring(keys int) time.Duration {
	p.t.Helper()
	seconds := p.metric(`idemproxy_store_duration_seconds_sum{operation="acquire"}`)
	return time.Duration(seconds / float64(keys) * float64(time.Second)).Round(time.Microsecond)
}
