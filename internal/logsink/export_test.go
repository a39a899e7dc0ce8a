package logsink

// Stop ends the goroutine.
func (s *Sink) Stop() { close(s.wake) }
