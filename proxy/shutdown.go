package proxy

import (
	"cmp"
	"context"
	"fmt"
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
	return int(s.admission.requests.Load() + s.admission.waiting.Load() + s.streams.Load())
}

// Shutdown stops accepting, closes idle connections and waits until every
// request under way has been answered, or ctx ends: then it returns a CutError. Who
// waits for a key in progress gets a 409 now.
func (s *Server) Shutdown(ctx context.Context) error {
	s.engine.StopWaiting()
	err := s.http.ShutdownWithContext(ctx)
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
