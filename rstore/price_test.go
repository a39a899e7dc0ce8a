package rstore_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// BenchmarkPrice is what a new key costs Redis: all of its CPU time, by a key that is
// acquired and completed, beside two plain SETs of the same bytes and the scripts of
// the release before, over a connection like the store's.
func BenchmarkPrice(b *testing.B) {
	for _, size := range []int{300, 16 << 10, 256 << 10} {
		r := &idem.Response{Status: 200, Body: make([]byte, size)}
		for _, remember := range []time.Duration{0, 24 * time.Hour} {
			of := func(n int64) idem.Claim {
				c := claim(fmt.Sprintf("7f8bb2a2-67a6-4a52-9e2c-%012d", n))
				c.Retention, c.Remember, c.Within = 24*time.Hour, remember, 5*time.Second
				return c
			}
			name := fmt.Sprintf("body=%d/remember=%v/", size, remember > 0)
			b.Run(name+"store", func(b *testing.B) {
				price(b, func(s rival, n int64) error {
					c := of(n)
					if _, err := s.Acquire(b.Context(), c); err != nil {
						return err
					}
					return s.Complete(b.Context(), c.Lease(), r)
				})
			})
			b.Run(name+"before", func(b *testing.B) {
				price(b, func(s rival, n int64) error {
					c := of(n)
					if err := s.call(b.Context(), s.acquire, last2Acquire(s.Store, c)); err != nil {
						return err
					}
					return s.call(b.Context(), s.settle, last2Settle(s.Store, idem.EventComplete, c, r))
				})
			})
			b.Run(name+"two-sets", func(b *testing.B) {
				price(b, func(s rival, n int64) error {
					name, life := s.Name(of(n).Key), 24*time.Hour
					for _, value := range [][]byte{make([]byte, 136), append(make([]byte, 136), r.Body...)} {
						set := s.client.B().Set().Key(name).Value(rueidis.BinaryString(value)).Px(life).Build()
						if err := s.client.Do(b.Context(), set).Error(); err != nil {
							return err
						}
					}
					return nil
				})
			})
		}
	}
}

// BenchmarkReplayPrice is what a replay costs Redis that no proxy has in memory, beside a
// plain GET of the same bytes.
func BenchmarkReplayPrice(b *testing.B) {
	for _, size := range []int{300, 3 << 10, 16 << 10} {
		r := &idem.Response{Status: 200, Body: make([]byte, size)}
		c := claim("7f8bb2a2-67a6-4a52-9e2c-000000000001")
		c.Retention = 24 * time.Hour
		b.Run(fmt.Sprintf("body=%d/store", size), func(b *testing.B) {
			price(b, func(s rival, n int64) error {
				out, err := s.Acquire(b.Context(), c)
				if err == nil && n == 0 {
					return s.Complete(b.Context(), c.Lease(), r)
				}
				if err == nil && (out.Kind != idem.VerdictCompleted || out.Local) {
					err = fmt.Errorf("it was answered %v, local: %t", out.Kind, out.Local)
				}
				return err
			})
		})
		b.Run(fmt.Sprintf("body=%d/get", size), func(b *testing.B) {
			price(b, func(s rival, n int64) error {
				if n == 0 {
					value := rueidis.BinaryString(append(make([]byte, 136), r.Body...))
					return s.client.Do(b.Context(), s.client.B().Set().Key("key").Value(value).Build()).Error()
				}
				return s.client.Do(b.Context(), s.client.B().Get().Key("key").Build()).Error()
			})
		})
	}
}

// rival is a store, and a client for what it is compared with.
type rival struct {
	*rstore.Store
	client          rueidis.Client
	acquire, settle string // the scripts of the release before
}

func (r rival) call(ctx context.Context, sha string, args []string) error {
	command := r.client.B().Evalsha().Sha1(sha).Numkeys(2).Key(args[1:3]...).Arg(args[3:]...).Build()
	return r.client.Do(ctx, command).Error()
}

// price runs f for keys that are new.
func price(b *testing.B, f func(s rival, n int64) error) {
	b.Helper()
	server := redistest.Start(b, "--appendonly", "no")
	client, err := rueidis.NewClient(rueidis.ClientOption{
		InitAddress: []string{server.Addr}, ForceSingleClient: true, DisableRetry: true, PipelineMultiplex: -1,
		MaxFlushDelay: 20 * time.Microsecond, ClientTrackingOptions: []string{"NOLOOP"},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	s := rival{Store: open(b, rstore.Config{URL: server.URL(), JournalBytes: 1 << 20, CacheBytes: 1}), client: client}
	before := newLast(b, server, s.Store)
	load := func(source string) string {
		m := server.Do("SCRIPT", "LOAD", source)
		sha, _ := m.ToString()
		return sha
	}
	s.acquire, s.settle = load(before.layout1+acquire2), load("#!lua flags=allow-oom\n"+before.layout1+settle2)
	if err := f(s, 0); err != nil { // loads the store's scripts
		b.Fatal(err)
	}
	var keys atomic.Int64
	b.SetParallelism(32)
	used := server.CPU()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := f(s, keys.Add(1)); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.StopTimer()
	b.ReportMetric(float64((server.CPU()-used).Nanoseconds())/1e3/float64(b.N), "redis-us/key")
}
