// Package rivals holds what IdemProxy is compared with. It is a module of its
// own, so that the product never depends on any of it.
package rivals

import (
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/dgraph-io/badger/v4"
	"go.etcd.io/bbolt"
)

// engine is an embedded engine reduced to what the store asks of it: a durable
// write, many of them at once.
type engine struct {
	put   func(key, value []byte) error
	close func() error
}

// BenchmarkEngines measures pairs of durable writes (an acquire of 160 bytes, a
// completion of 600), each waiting for its fsync, by 1, 64 and 512 callers.
// docs/decisions/0001-embedded-engine.md is written from it.
func BenchmarkEngines(b *testing.B) {
	for _, callers := range []int{1, 64, 512} {
		for name, open := range map[string]func(dir string) (engine, error){
			"pebble": openPebble, "bbolt": openBolt, "badger": openBadger,
		} {
			b.Run(fmt.Sprintf("%s/callers=%d", name, callers), func(b *testing.B) {
				e, err := open(filepath.Join(b.TempDir(), "db"))
				if err != nil {
					b.Fatal(err)
				}
				pairs(b, e, callers)
				if err := e.close(); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}

func pairs(b *testing.B, e engine, callers int) {
	b.Helper()
	var next atomic.Int64
	done := make(chan error, callers)
	b.ResetTimer()
	for range callers {
		go func() {
			acquire, complete := make([]byte, 160), make([]byte, 600)
			for {
				n := next.Add(1)
				if n > int64(b.N) {
					done <- nil
					return
				}
				key := fmt.Appendf(nil, "%016x", n*0x9E3779B9)
				if err := e.put(key, acquire); err != nil {
					done <- err
					return
				}
				if err := e.put(key, complete); err != nil {
					done <- err
					return
				}
			}
		}()
	}
	for range callers {
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pairs/s")
}

type quiet struct{}

func (quiet) Infof(string, ...any)      {}
func (quiet) Errorf(string, ...any)     {}
func (quiet) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }
func (quiet) Warningf(string, ...any)   {}
func (quiet) Debugf(string, ...any)     {}

func openPebble(dir string) (engine, error) {
	db, err := pebble.Open(dir, &pebble.Options{Logger: quiet{}, MemTableSize: 32 << 20})
	if err != nil {
		return engine{}, err
	}
	return engine{func(k, v []byte) error { return db.Set(k, v, pebble.Sync) }, db.Close}, nil
}

func openBolt(dir string) (engine, error) {
	db, err := bbolt.Open(dir, 0o600, nil)
	if err != nil {
		return engine{}, err
	}
	bucket := []byte("records")
	err = db.Update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket(bucket)
		return err
	})
	return engine{func(k, v []byte) error {
		return db.Batch(func(tx *bbolt.Tx) error { return tx.Bucket(bucket).Put(k, v) })
	}, db.Close}, err
}

func openBadger(dir string) (engine, error) {
	db, err := badger.Open(badger.DefaultOptions(dir).WithSyncWrites(true).WithLogger(quiet{}))
	if err != nil {
		return engine{}, err
	}
	return engine{func(k, v []byte) error {
		return db.Update(func(tx *badger.Txn) error { return tx.Set(k, v) })
	}, db.Close}, nil
}
