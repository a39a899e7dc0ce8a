package main

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/redis/rueidis"
	"github.com/valyala/fasthttp"
)

// These floors tell what a call of Redis costs from what is done in it.

// twoCalls are two scripts that each do the write of floor-redis and nothing else, with
// as many arguments as IdemProxy's have: what atomicity by script costs before a word of
// it is compared. What IdemProxy costs beyond it is what its scripts look at.
type twoCalls struct {
	redis rueidis.Client
	set   *rueidis.Lua
}

func floorScripts(ln net.Listener, o options) error {
	client, err := onOneConnection(o)
	if err != nil {
		return err
	}
	return floor(ln, o, &twoCalls{client, rueidis.NewLuaScript("return redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])")})
}

func (s *twoCalls) claim(key []byte) error { return s.call(key, make([]byte, claimed), "30000") }

func (s *twoCalls) keep(key []byte, resp *fasthttp.Response) error {
	return s.call(key, append(resp.Header.Header(), resp.Body()...), "86400000")
}

func (s *twoCalls) call(key, value []byte, ms string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	args := []string{rueidis.BinaryString(value), ms, "0", "0", "0"}
	return s.set.Exec(ctx, s.redis, []string{string(key), "r" + string(key)}, args).Error()
}

// floorGet answers every request with what one plain GET returns: a replay that nobody
// has in memory cannot cost less.
func floorGet(ln net.Listener, o options) error {
	client, err := onOneConnection(o)
	if err != nil {
		return err
	}
	answer := make([]byte, o.size)
	for i := range answer {
		answer[i] = 'x'
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	const key = "floor-get"
	if err := client.Do(ctx, client.B().Set().Key(key).Value(rueidis.BinaryString(answer)).Build()).Error(); err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	s := &fasthttp.Server{NoDefaultDate: true, NoDefaultServerHeader: true, Handler: func(c *fasthttp.RequestCtx) {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		text, err := client.Do(ctx, client.B().Get().Key(key).Build()).ToString()
		if err != nil {
			c.Error(err.Error(), fasthttp.StatusBadGateway)
			return
		}
		c.SetContentType("application/json")
		c.Response.SetBodyString(text)
	}}
	return s.Serve(ln)
}
