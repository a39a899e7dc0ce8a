package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/valyala/fasthttp"
)

// twoRows are two plain statements of one row each, with as many connections as
// IdemProxy has, and prepared.
type twoRows struct{ pool *pgxpool.Pool }

func floorPostgres(ln net.Listener, o options) error {
	config, err := pgxpool.ParseConfig(o.postgres)
	if err != nil {
		return fmt.Errorf("the PostgreSQL URL: %w", err)
	}
	config.MaxConns = 16
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return fmt.Errorf("connecting to PostgreSQL: %w", err)
	}
	defer pool.Close()
	_, err = pool.Exec(context.Background(), "CREATE TABLE IF NOT EXISTS floor (id bytea PRIMARY KEY, value bytea) WITH (fillfactor = 80)")
	if err != nil {
		return fmt.Errorf("the floor's table: %w", err)
	}
	return floor(ln, o, &twoRows{pool})
}

func (r *twoRows) claim(key []byte) error {
	return r.run("INSERT INTO floor VALUES ($1, $2) ON CONFLICT (id) DO NOTHING", key, make([]byte, claimed))
}

func (r *twoRows) keep(key []byte, resp *fasthttp.Response) error {
	return r.run("UPDATE floor SET value = $2 WHERE id = $1", key, append(bytes.Clone(resp.Header.Header()), resp.Body()...))
}

func (r *twoRows) run(sql string, key, value []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := r.pool.Exec(ctx, sql, key, value); err != nil {
		return fmt.Errorf("PostgreSQL: %w", err)
	}
	return nil
}
