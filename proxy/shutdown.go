package proxy

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"sync"
)

// CutError says that requests were under way when there was no more time for them.
type CutError struct {
	Requests int   // about how many
	Err      error // why there was no more time
}

// Error implements error.
func (e *CutError) Error() string {
	return fmt.Sprintf("%d requests are still under way: %v", e.Requests, e.Err)
}

// Unwrap is why there was no more time.
func (e *CutError) Unwrap() error { return e.Err }

// UnderWay is how many requests have not been answered to their end.
func (s *Server) UnderWay() int {
	return int(s.admission.requests.Load() + s.admission.waiting.Load())
}

// Shutdown stops accepting, closes idle connections and waits until every
// request under way has been answered, or ctx ends: then it returns a CutError. Who
// waits for a key in progress gets a 409 now.
func (s *Server) Shutdown(ctx context.Context) error {
	s.engine.StopWaiting()
	s.listening.end()
	err := s.http.ShutdownWithContext(ctx)
	s.listening.close()
	s.settler.stop()
	done := make(chan struct{})
	go func() {
		s.tunnels.Close()
		s.late.Wait()
		s.settler.work.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		err = cmp.Or(err, ctx.Err())
	}
	if err != nil {
		err = &CutError{Requests: s.UnderWay(), Err: err}
	}
	s.settler.left()
	s.reloading.Lock()
	defer s.reloading.Unlock()
	s.live.Load().close()
	return err
}

// listening are the listeners of a Server. fasthttp knows a listener only once it accepts
// from it: one that is served at the time of Shutdown, or later, would stay open.
type listening struct {
	mu    sync.Mutex
	ended bool           // guarded by mu
	all   []net.Listener // guarded by mu
}

// add is false after end; ln is closed then.
func (l *listening) add(ln net.Listener) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		_ = ln.Close()
		return false
	}
	l.all = append(l.all, ln)
	return true
}

func (l *listening) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
}

// close closes what fasthttp has not, which is those that it did not know yet.
func (l *listening) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ln := range l.all {
		_ = ln.Close()
	}
}
