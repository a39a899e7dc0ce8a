package proxy

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
)

// unreadable is a store that cannot be read, and notes when it was asked.
type unreadable struct {
	*storetest.Memory

	mu    sync.Mutex
	asked []time.Time // guarded by mu
}

func (u *unreadable) Get(context.Context, idem.Key) (idem.Record, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.asked = append(u.asked, time.Now())
	return idem.Record{}, fmt.Errorf("%w: so it was planned", idem.ErrUnavailable)
}

// What is in trouble is asked ever more rarely, so that thousands of attempts in doubt do
// not keep it there; but at least twice a minute, so that one who waits for a person does
// not wait for the proxy.
func TestSettlingAsksEverMoreRarely(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &unreadable{Memory: storetest.NewMemory()}
		engine := idem.NewEngine(idem.Config{Store: store})
		defer engine.Close(context.Background())
		b := newSettler(&Server{engine: engine}, 0)
		key, err := idem.ParseKey("k")
		if err != nil {
			t.Fatal(err)
		}
		b.add(doubtful{key, idem.NewOwner()})
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		b.stop()
		b.work.Wait()

		var last time.Duration
		for i := 1; i < len(store.asked); i++ {
			rest := store.asked[i].Sub(store.asked[i-1])
			if want := min(2*last, 30*time.Second); rest < want || rest > 30*time.Second {
				t.Fatalf("pause %d is %v, after one of %v", i, rest, last)
			}
			last = rest
		}
		if n := len(store.asked); n < 20 || store.asked[1].Sub(store.asked[0]) > time.Second {
			t.Errorf("it was asked %d times in ten minutes: at %v", n, store.asked)
		}
	})
}
