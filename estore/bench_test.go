package estore_test

import (
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/idemproxy/idemproxy/estore"
	"github.com/idemproxy/idemproxy/idem"
)

// BenchmarkNewKey is a new key from acquire to completion, by 64 callers, on a
// file system in memory: what the store itself costs.
func BenchmarkNewKey(b *testing.B) {
	s := open(b, estore.Config{Dir: "data", SweepEvery: time.Hour}.OnFS(vfs.NewMem()))
	response := &idem.Response{Status: 200, Body: make([]byte, 256)}
	var n atomic.Int64
	b.SetParallelism(32)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c := claim("key-" + strconv.FormatInt(n.Add(1), 10))
			if out, err := s.Acquire(b.Context(), c); err != nil || out.Kind != idem.VerdictAcquired {
				b.Fatal(out.Kind, err)
			}
			if err := s.Complete(b.Context(), c.Lease(), response); err != nil {
				b.Fatal(err)
			}
		}
	})
}
