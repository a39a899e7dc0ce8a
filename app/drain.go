package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/proxy"
)

// What the store has not taken of what became of requests gets a last chance, a shorter
// one if there is hurry.
const (
	settleAtEnd   = 5 * time.Second
	settleHurried = time.Second
)

// Hurry has Run end at once when it drains, or as soon as it would: requests under way
// are cut. It may be repeated.
func (a *App) Hurry() { a.hurry() }

// drain stops without losing a request: first nobody is to be sent here any more,
// then nobody can connect any more, then what is under way is finished.
func (a *App) drain() error {
	c := a.settings()
	delay, timeout := c.DrainDelay, c.DrainTimeout
	a.log.Info().Str("event", "draining").Dur("delay", delay).Dur("at_most", timeout).Int("under_way", a.proxy.UnderWay()).
		Msg("not ready any more; finishing the requests under way; another signal cuts them")
	a.admin.Drain()
	a.proxy.Leave()
	wait := time.NewTimer(delay)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-a.hurried.Done():
	}
	ctx, cancel := context.WithCancel(a.hurried)
	if timeout > 0 {
		ctx, cancel = context.WithTimeout(a.hurried, timeout)
	}
	defer cancel()
	err := a.proxy.Shutdown(ctx)
	last := settleAtEnd
	if a.hurried.Err() != nil {
		last = settleHurried
	}
	settle, cancelSettle := context.WithTimeout(context.Background(), last)
	defer cancelSettle()
	dropped := a.engine.Close(settle)
	if a.tracing != nil {
		a.tracing.close(settle)
	}
	return stopped(a.log, err, dropped)
}

// ErrLogged is wrapped by an error of Run that the last line of the log has told.
var ErrLogged = errors.New("the proxy did not finish everything")

// stopped is the last line of the log, and an error unless every request was
// finished in time and the store has taken what became of it.
func stopped(log zerolog.Logger, late error, dropped int) error {
	cut := 0
	if c := (*proxy.CutError)(nil); errors.As(late, &c) {
		cut = c.Requests
	}
	switch {
	case errors.Is(late, context.Canceled):
		late = fmt.Errorf("stopped by another signal: %w", late)
	case late != nil:
		late = fmt.Errorf("stopped after --drain-timeout: %w", late)
	}
	switch {
	case dropped > 0:
		log.Error().Str("event", "stopped").Int("dropped", dropped).Int("cut", cut).AnErr("late", late).
			Msg("the store did not take what became of some requests: retries with their keys may execute again")
		return fmt.Errorf("%w: %w", ErrLogged,
			errors.Join(late, fmt.Errorf("stopped while the store had not taken what became of %d requests", dropped)))
	case late != nil:
		log.Error().Str("event", "stopped").Int("dropped", 0).Int("cut", cut).AnErr("late", late).
			Msg("some requests were not finished")
		return fmt.Errorf("%w: %w", ErrLogged, late)
	}
	log.Info().Str("event", "stopped").Int("dropped", 0).Int("cut", 0).Msg("every request was finished")
	return nil
}
