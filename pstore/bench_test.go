package pstore_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/dbtest"
	"github.com/idemproxy/idemproxy/pstore"
)

// BenchmarkNewKey is an acquire and a complete, by as many as share the connections,
// with commits that are flushed to the disk.
func BenchmarkNewKey(b *testing.B) {
	server := dbtest.StartPostgres(b, "fsync=on", "autovacuum=on")
	body := make([]byte, 300)
	for _, conns := range []int{1, 4, 16, 32} {
		b.Run(fmt.Sprint("conns=", conns), func(b *testing.B) {
			s := open(b, pstore.Config{URL: server.URL("postgres") + fmt.Sprint("?pool_max_conns=", conns)})
			var n atomic.Int64
			b.SetParallelism(64)
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					c := claim(fmt.Sprint(n.Add(1)))
					if out, err := s.Acquire(b.Context(), c); err != nil || out.Kind != idem.VerdictAcquired {
						b.Fatalf("%v, %v", out.Kind, err)
					}
					if err := s.Complete(b.Context(), c.Lease(), &idem.Response{Status: 200, Body: body}); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

// BenchmarkReplay is one from memory, and one that asks the server.
func BenchmarkReplay(b *testing.B) {
	server := dbtest.StartPostgres(b, "fsync=on")
	for _, local := range []bool{true, false} {
		b.Run(fmt.Sprint("local=", local), func(b *testing.B) {
			s := open(b, pstore.Config{URL: server.URL("postgres")})
			c := completed(b, s, "k")
			if cached(b, s, c); !local {
				s.Deafen()
			}
			b.SetParallelism(16)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if out := acquire(b, s, c, idem.VerdictCompleted); local && !out.Local {
						b.Fatal("not local")
					}
				}
			})
		})
	}
}

// BenchmarkContention is many who claim one key that is in progress.
func BenchmarkContention(b *testing.B) {
	server := dbtest.StartPostgres(b, "fsync=on")
	s := open(b, pstore.Config{URL: server.URL("postgres")})
	c := acquired(b, s, "k")
	b.SetParallelism(64)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			acquire(b, s, c, idem.VerdictInProgress)
		}
	})
}

// BenchmarkRenew is one heartbeat of 1,024 leases.
func BenchmarkRenew(b *testing.B) {
	server := dbtest.StartPostgres(b, "fsync=on")
	s := open(b, pstore.Config{URL: server.URL("postgres")})
	leases := make([]idem.Lease, 1024)
	for i := range leases {
		leases[i] = acquired(b, s, fmt.Sprint(i)).Lease()
	}
	for b.Loop() {
		for _, err := range s.Renew(b.Context(), leases) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}
