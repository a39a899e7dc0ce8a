package rstore

import (
	"context"

	"github.com/redis/rueidis"
)

// redirects bounds how often commands follow a slot from server to server.
const redirects = 3

// together sends commands about a record, the last of which is a WAIT, over one connection,
// which nobody else uses meanwhile. build makes them, each time that they are sent.
//
// The client library follows a slot of a Cluster that is elsewhere command by command. A
// WAIT, which names no key, would stay behind: it would ask the server that the slot has
// left, over a connection that has written nothing. (The library, v1.0.79, does not get as
// far as that where a slot is moving: it panics.) So they all go where the slot is.
func (l *link) together(ctx context.Context, record string, build func() []rueidis.Completed) []rueidis.RedisResult {
	commands := build()
	if l.client.Mode() != rueidis.ClientModeCluster {
		return l.inTurn(ctx, l.addr, len(commands), func(ctx context.Context) []rueidis.RedisResult {
			return l.client.DoMulti(ctx, commands...)
		})
	}
	results := l.inTurn(ctx, l.ownerOf(slotOf(record)), len(commands), func(ctx context.Context) []rueidis.RedisResult {
		return l.alone(ctx, commands)
	})
	for range redirects {
		addr, asking := elsewhere(results)
		if addr == "" {
			break
		}
		node := l.client.Nodes()[addr]
		if node == nil {
			break // the library looks for the slot by now; nothing was done
		}
		results = l.inTurn(ctx, addr, len(commands), func(ctx context.Context) []rueidis.RedisResult {
			if !asking {
				return node.DoMulti(ctx, build()...)
			}
			return l.ask(ctx, node, build())
		})
	}
	return results
}

// ask sends commands to the server that is to have their slot.
func (l *link) ask(ctx context.Context, node rueidis.Client, commands []rueidis.Completed) []rueidis.RedisResult {
	var asking []rueidis.Completed
	for _, command := range commands {
		asking = append(asking, l.client.B().Asking().Build(), command)
	}
	return odd(node.DoMulti(ctx, asking...))
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
