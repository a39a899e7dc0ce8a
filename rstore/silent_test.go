package rstore_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/fakeredis"
)

// A Redis that stands still (SIGSTOP) is given up after store_timeout, at whichever command it
// was while a store connected, and another one is connected to then.
func TestARedisThatFallsSilentWhileAStoreConnects(t *testing.T) {
	t.Parallel()
	for after := range int64(12) {
		synctest.Test(t, func(t *testing.T) {
			silent, next := fake(t), fake(t)
			var asked atomic.Int64
			silent.SayInstead(func([]string) *fakeredis.Saying {
				if asked.Add(1) <= after {
					return nil
				}
				return &fakeredis.Saying{Then: fakeredis.IsSilent}
			})
			var failedOver atomic.Bool
			connected := make(chan *rstore.Store)
			go func() {
				connected <- open(t, rstore.Config{URL: fakeURL, Timeout: time.Second, Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
					if failedOver.Load() {
						return next.Dial(ctx, network, addr)
					}
					return silent.Dial(ctx, network, addr)
				}})
			}()
			time.Sleep(time.Minute)
			failedOver.Store(true)
			time.Sleep(time.Minute)
			select {
			case s := <-connected:
				if err := s.Ping(context.Background()); err != nil {
					t.Errorf("after %d commands: %v", after, err)
				}
			default:
				t.Errorf("after %d commands it is waited for without end", after)
				silent.Close()
				<-connected
			}
		})
	}
}
