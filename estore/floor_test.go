package estore_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/estore"
	"github.com/idemproxy/idemproxy/idem"
)

// floorLog is the least that a durable log does: what is appended while a sync
// runs shares the next one. The file is written before, so that a sync changes
// nothing but data.
type floorLog struct {
	file *os.File
	wake chan struct{}

	mu    sync.Mutex
	bytes []byte        // guarded by mu
	done  chan struct{} // guarded by mu; closed when bytes are on the disk
}

const floorSize = 64 << 20

func newFloorLog(b *testing.B) *floorLog {
	b.Helper()
	f, err := os.Create(filepath.Join(b.TempDir(), "log"))
	if err != nil {
		b.Fatal(err)
	}
	if _, err := f.Write(make([]byte, floorSize)); err != nil {
		b.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		b.Fatal(err)
	}
	l := &floorLog{file: f, wake: make(chan struct{}, 1), done: make(chan struct{})}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.loop(b)
	}()
	b.Cleanup(func() {
		close(l.wake)
		<-ended
		_ = f.Close()
	})
	return l
}

func (l *floorLog) append(record []byte) {
	l.mu.Lock()
	l.bytes = append(l.bytes, record...)
	done := l.done
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default:
	}
	<-done
}

func (l *floorLog) loop(b *testing.B) {
	var spare []byte
	at := int64(0)
	for range l.wake {
		l.mu.Lock()
		bytes, done := l.bytes, l.done
		l.bytes, l.done = spare[:0], make(chan struct{})
		l.mu.Unlock()
		if at+int64(len(bytes)) > floorSize {
			at = 0
		}
		n, err := l.file.WriteAt(bytes, at)
		if err == nil {
			err = syscall.Fdatasync(int(l.file.Fd()))
		}
		if err != nil {
			b.Error(err)
		}
		at += int64(n)
		spare = bytes
		close(done)
	}
}

// BenchmarkFloor is what BenchmarkAcquireComplete could cost at the least: as
// many bytes, appended in two steps, with nothing to be found again.
func BenchmarkFloor(b *testing.B) {
	l := newFloorLog(b)
	acquired, completed := make([]byte, 150), make([]byte, 500)
	b.SetParallelism(32)
	b.ReportAllocs()
	cpu := cpuTime(b)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l.append(acquired)
			l.append(completed)
		}
	})
	b.ReportMetric(float64(cpuTime(b)-cpu)/float64(b.N)/1000, "cpu-us/op")
}

// BenchmarkLatency has 4,000 new keys a second come, whatever the store does, and
// BenchmarkFloorLatency as many pairs of appends.
func BenchmarkLatency(b *testing.B) {
	s := open(b, estore.Config{Dir: b.TempDir()})
	response := &idem.Response{Status: 200, Body: make([]byte, 300)}
	openLoop(b, func(i int) {
		c := claim(fmt.Sprint(i))
		acquire(b, s, c)
		if err := s.Complete(b.Context(), c.Lease(), response); err != nil {
			b.Error(err)
		}
	})
}

func BenchmarkFloorLatency(b *testing.B) {
	l := newFloorLog(b)
	acquired, completed := make([]byte, 150), make([]byte, 500)
	openLoop(b, func(int) {
		l.append(acquired)
		l.append(completed)
	})
}

func openLoop(b *testing.B, ask func(i int)) {
	b.Helper()
	took := make([]time.Duration, b.N)
	var asking sync.WaitGroup
	start := time.Now()
	for i := range b.N {
		due := start.Add(time.Duration(i) * time.Second / 4000)
		time.Sleep(time.Until(due))
		asking.Go(func() {
			ask(i)
			took[i] = time.Since(due)
		})
	}
	asking.Wait()
	slices.Sort(took)
	b.ReportMetric(float64(took[b.N/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(took[b.N*99/100].Microseconds()), "p99-us")
	b.ReportMetric(float64(took[b.N*999/1000].Microseconds()), "p99.9-us")
}

// cpuTime is what the process has had of the processor. On a machine that others
// use, too, it says more than the time that has passed.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
