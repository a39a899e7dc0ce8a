package estore_test

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/idemproxy/idemproxy/estore"
	"github.com/idemproxy/idemproxy/idem"
)

// BenchmarkTwoBatches is the least that BenchmarkNewKey can cost on this engine: each of its
// two steps is one entry, in a batch that the engine itself groups with others.
func BenchmarkTwoBatches(b *testing.B) {
	s := open(b, estore.Config{Dir: "data", SweepEvery: time.Hour}.OnFS(vfs.NewMem()))
	acquired, completed := make([]byte, 150), make([]byte, 500)
	var n atomic.Int64
	b.SetParallelism(32)
	b.ReportAllocs()
	cpu := cpuTime(b)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := uint64(n.Add(1))
			k := sha256.Sum256(binary.BigEndian.AppendUint64(nil, i))
			err := s.Put(binary.BigEndian.AppendUint64([]byte("x"), i), acquired)
			if err = errors.Join(err, s.Put(append([]byte("y"), k[:16]...), completed)); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.ReportMetric(float64(cpuTime(b)-cpu)/float64(b.N)/1000, "cpu-us/op")
}

// BenchmarkNewKey is a new key from acquire to completion, by 64 callers, on a
// file system in memory: what the store itself costs.
func BenchmarkNewKey(b *testing.B) {
	s := open(b, estore.Config{Dir: "data", SweepEvery: time.Hour}.OnFS(vfs.NewMem()))
	response := &idem.Response{Status: 200, Body: make([]byte, 256)}
	var n atomic.Int64
	b.SetParallelism(32)
	b.ReportAllocs()
	cpu := cpuTime(b)
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
	b.ReportMetric(float64(cpuTime(b)-cpu)/float64(b.N)/1000, "cpu-us/op")
}
