package pstore

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/internal/dbtest"
)

// pipelined is a statement that waits to be sent together with others.
type pipelined struct {
	sql  string
	a    *args
	done chan error
}

// pipeline sends what waits, as much as there is, over one connection: each statement in
// a transaction of its own, or all in one.
func pipeline(ctx context.Context, conn *pgconn.PgConn, waiting <-chan *pipelined, together bool) {
	for first := range waiting {
		batch := []*pipelined{first}
		for len(batch) < 64 && len(waiting) > 0 {
			if next, ok := <-waiting; ok {
				batch = append(batch, next)
			}
		}
		p := conn.StartPipeline(ctx)
		for i, s := range batch {
			p.SendQueryParams(s.sql, s.a.values, s.a.oids, s.a.formats, []int16{binaryFormat})
			if !together || i == len(batch)-1 {
				p.SendPipelineSync()
			}
		}
		err := p.Flush()
		for i, s := range batch {
			err = answered(p, err, !together || i == len(batch)-1)
			if !together {
				s.done <- err
			}
		}
		if closed := p.Close(); err == nil {
			err = closed
		}
		if together {
			for _, s := range batch {
				s.done <- err
			}
		}
	}
}

// answered reads the answer to one statement and, if it ends a transaction, that of the commit.
func answered(p *pgconn.Pipeline, err error, commits bool) error {
	if err != nil {
		return err
	}
	got, err := p.GetResults()
	if rows, ok := got.(*pgconn.ResultReader); ok {
		err = rows.Read().Err
	}
	if err == nil && commits {
		_, err = p.GetResults()
	}
	return err
}

// BenchmarkPipelined is a new key of 64 clients: by a pool of connections, one statement at
// a time on each, as the store does it; and pipelined over fewer.
// Commits are flushed to the disk. docs/performance.md says what came of it.
func BenchmarkPipelined(b *testing.B) {
	server := dbtest.StartPostgres(b, "fsync=on", "autovacuum=on", "shared_buffers=256MB")
	s, err := New(Config{URL: server.URL("postgres"), Migrate: true})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	for s.Ping(b.Context()) != nil {
		time.Sleep(10 * time.Millisecond) // it connects
	}
	b.Run("pool=16", func(b *testing.B) {
		newKeys(b, s, func(sql string, a *args, width int) error {
			_, err := s.askOne(b.Context(), sql, a, width)
			return err
		})
	})
	for _, together := range []bool{false, true} {
		for _, conns := range []int{2, 4, 8, 16} {
			b.Run(fmt.Sprintf("pipelines=%d/one-transaction=%v", conns, together), func(b *testing.B) {
				waiting := make(chan *pipelined, 256)
				var sending sync.WaitGroup
				for range conns {
					conn, err := pgx.Connect(b.Context(), server.URL("postgres"))
					if err != nil {
						b.Fatal(err)
					}
					sending.Go(func() {
						pipeline(context.Background(), conn.PgConn(), waiting, together)
						_ = conn.Close(context.Background())
					})
				}
				newKeys(b, s, func(sql string, a *args, _ int) error {
					p := &pipelined{sql, a, make(chan error, 1)}
					waiting <- p
					return <-p.done
				})
				close(waiting)
				sending.Wait()
			})
		}
	}
}

// benchedKeys counts: each key is new, however often a benchmark runs.
var benchedKeys atomic.Int64

// newKeys acquires and completes new keys, and reports how many a second.
func newKeys(b *testing.B, s *Store, do func(sql string, a *args, width int) error) {
	b.Helper()
	body := idem.AppendResponse(nil, &idem.Response{Status: 200, Body: make([]byte, 300)})
	b.SetParallelism(32)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			key, err := idem.ParseKey(fmt.Sprint("key ", benchedKeys.Add(1)))
			if err != nil {
				b.Error(err)
				return
			}
			owner, none := idem.NewOwner(), [16]byte{}
			acquire := newArgs(14).uuid(key.ID()).uuid(owner).uuid(none).uuid(none).int8(0).int8(60_000).int8(3_600_000).int8(0).
				bool(true).bool(false).bytes([]byte{}).bytes([]byte(key.Value())).null().text(s.patience)
			complete := newArgs(7).uuid(key.ID()).int4(int32(idem.EventComplete)).uuid(owner).
				null().null().bytes(body).text(s.patience)
			if err := do(s.sql.acquire, acquire, acquiredWidth); err != nil {
				b.Error(err)
				return
			}
			if err := do(s.sql.settle, complete, 1); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "keys/s")
}
