package rstore

import (
	"context"

	"github.com/redis/rueidis"
)

// redirects bounds how often commands follow a slot from server to server.
const redirects = 3

// together sends commands, the last of which is a WAIT, over one connection, which
// nobody else uses meanwhile. build makes them, each time that they are sent.
//
// The client library follows a slot of a Cluster that is elsewhere command by command. A
// WAIT, which names no key, would stay behind: it would ask the server that the slot has
// left, over a connection that has written nothing. (The library, v1.0.79, does not get as
// far as that where a slot is moving: it panics.) So they all go where the slot is.
func (l *link) together(ctx context.Context, build func() []rueidis.Completed) []rueidis.RedisResult {
	if l.client.Mode() != rueidis.ClientModeCluster {
		return l.client.DoMulti(ctx, build()...)
	}
	results := l.alone(ctx, build())
	for range redirects {
		addr, asking := elsewhere(results)
		if addr == "" {
			break
		}
		node := l.client.Nodes()[addr]
		if node == nil {
			break // the library looks for the slot by now; nothing was done
		}
		if !asking {
			results = node.DoMulti(ctx, build()...)
			continue
		}
		var commands []rueidis.Completed
		for _, command := range build() {
			commands = append(commands, l.client.B().Asking().Build(), command)
		}
		results = odd(node.DoMulti(ctx, commands...))
	}
	return results
}

// alone sends commands over a connection of their own to the server that should have
// their slot. One on which an answer is still to come is not used again.
func (l *link) alone(ctx context.Context, commands []rueidis.Completed) []rueidis.RedisResult {
	client, release := l.client.Dedicate()
	defer release()
	results := client.DoMulti(ctx, commands...)
	for _, r := range results {
		if r.NonRedisError() != nil {
			client.Close()
			break
		}
	}
	return results
}

// elsewhere is the server that has the slot, if the script was not run since it has left,
// and whether that server is to be told that we know it. The script stands before WAIT.
func elsewhere(results []rueidis.RedisResult) (addr string, asking bool) {
	refused, ok := rueidis.IsRedisErr(results[len(results)-2].Error())
	if !ok {
		return "", false
	}
	if addr, ok := refused.IsAsk(); ok {
		return addr, true
	}
	addr, _ = refused.IsMoved()
	return addr, false
}

// odd are the answers to every other command.
func odd(results []rueidis.RedisResult) (some []rueidis.RedisResult) {
	for i := 1; i < len(results); i += 2 {
		some = append(some, results[i])
	}
	return some
}
