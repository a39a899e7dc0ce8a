package rstore

import (
	"context"
	"sync"

	"github.com/redis/rueidis"
)

// bursts is burst for each server of a Cluster by itself. The client library answers a
// pipeline as a whole, so a server that does not answer would keep what the others say until
// the call is over: also that one of them does not have the script, and no time would be left
// to send it. A server that has just been promoted or restarted has none.
func (sc *script) bursts(ctx context.Context, l *link, keys, args [][]string) []rueidis.RedisResult {
	parts := map[string][]int{} // by the server
	for i := range keys {
		at := l.ownerOf(l.slot(keys[i][0]))
		parts[at] = append(parts[at], i)
	}
	if len(parts) == 1 {
		for at := range parts {
			return sc.burst(ctx, l.client, at, keys, args)
		}
	}
	results := make([]rueidis.RedisResult, len(keys))
	var under sync.WaitGroup
	for at, part := range parts {
		under.Go(func() {
			theirs, with := make([][]string, len(part)), make([][]string, len(part))
			for n, i := range part {
				theirs[n], with[n] = keys[i], args[i]
			}
			for n, result := range sc.burst(ctx, l.client, at, theirs, with) {
				results[part[n]] = result
			}
		})
	}
	under.Wait()
	return results
}
