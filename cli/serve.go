package cli

import (
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/idemproxy/idemproxy/app"
	"github.com/idemproxy/idemproxy/config"
)

func serveCommand(use string, cfg *config.Config, stderr io.Writer) *cobra.Command {
	c := &cobra.Command{
		Use:   use,
		Short: "An idempotency proxy: retries with the same key never execute twice",
		Long: `IdemProxy stands between clients and a backend. A request with an
Idempotency-Key (or X-Idempotency-Key) is forwarded once; every retry with the
same key and payload gets the stored response. Requests without a key pass
through.

Without a command it serves, as "idemproxy serve" does: with every setting at its
default it listens on :8080, forwards to 127.0.0.1:9000 and keeps its records in
the user's data directory.

Each setting can be given as a flag, as an environment variable (IDEMPROXY_ and
the name in capitals: IDEMPROXY_LOCK_TTL) or in a YAML file (lock_ttl: 30s); a
flag wins over the environment, which wins over the file.`,
		Example: `  idemproxy --backend http://127.0.0.1:3000
  idemproxy --store redis://127.0.0.1:6379/0 --on-ambiguous hold
  idemproxy --demo        # with a demo backend, to try it out`,
		Args:         cobra.NoArgs,
		SilenceUsage: true, SilenceErrors: true,
	}
	s := addSettings(c, cfg)
	c.RunE = func(c *cobra.Command, _ []string) error {
		hangUp, stop := app.HangUps()
		defer stop()
		// A log that nobody reads any more costs its lines. By default the next one would end the
		// process, and cut every request. Other commands do end then, as `list | head` wants.
		signal.Ignore(syscall.SIGPIPE)
		if _, err := s.load(); err != nil {
			return err
		}
		tuneThreads(cfg.Store)
		log, flush := newLogger(stderr, cfg)
		defer flush()
		a, err := app.New(*cfg, log)
		if err != nil {
			return failure{err}
		}
		go followHeap(c.Context())
		go a.Follow(c.Context(), s.again, s.file, hangUp)
		defer secondSignal(a.Hurry)()
		if err := a.Run(c.Context()); err != nil {
			return failure{err}
		}
		return nil
	}
	return c
}

// secondSignal calls f at the second signal to stop: the first one ends the command's
// context. A third one ends the process. What it returns is due when nobody minds any
// more.
func secondSignal(f func()) (done func()) {
	signals, end := make(chan os.Signal, 2), make(chan struct{})
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	var waiting sync.WaitGroup
	waiting.Go(func() {
		defer signal.Stop(signals)
		for range 2 {
			select {
			case <-signals:
			case <-end:
				return
			}
		}
		f()
	})
	return func() {
		close(end)
		waiting.Wait()
	}
}
