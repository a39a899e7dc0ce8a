package rstore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/idemproxy/idemproxy/idem"
)

// listPage is how many names are asked for at a time.
const listPage = 500

// namedSize is as much of a record as holds its names, but for very long ones.
const namedSize = idem.HeadSize + 2<<10

// List implements idem.Inspector. It goes through the names in every node of a
// Cluster.
func (s *Store) List(ctx context.Context, visit func(*idem.Record) bool) error {
	l, err := s.conn(ctx)
	if err != nil {
		return err
	}
	client := l.client
	// A scan may show a name twice, and a replica what its primary does.
	seen := map[id]struct{}{}
	var unread idem.Unread
	match := globLiteral(s.prefix) + strings.Repeat("?", 2*len(id{})) // not the responses, nor the registry
	for _, node := range client.Nodes() {
		for cursor, first := uint64(0), true; first || cursor != 0; first = false {
			scan := node.B().Scan().Cursor(cursor).Match(match).Count(listPage).Build()
			page, err := node.Do(ctx, scan).AsScanEntry()
			if err != nil {
				return s.mapClosed(unavailable(err))
			}
			cursor = page.Cursor
			if more, err := s.listNames(ctx, client, node, s.unseen(page.Elements, seen), &unread, visit); err != nil || !more {
				return err
			}
		}
	}
	return unread.Err()
}

// Bounds of looking for a name: SCAN goes through all names of a server, whatever it
// matches.
const (
	findFor  = 10 * time.Second
	findStep = 5000 // names a command: a millisecond or so of the server's time
)

// Find implements idem.Inspector. The servers compare the names, and read no record.
func (s *Store) Find(ctx context.Context, digest []byte) (key idem.Key, err error) {
	l, err := s.conn(ctx)
	if err != nil {
		return key, err
	}
	within, cancel := context.WithTimeout(ctx, s.findFor)
	defer cancel()
	match := globLiteral(s.prefix) + hex.EncodeToString(digest) + strings.Repeat("?", 2*(len(id{})-len(digest)))
	looked, seen := 0, map[id]struct{}{}
	var unread idem.Unread
	for _, node := range l.client.Nodes() {
		for cursor, first := uint64(0), true; first || cursor != 0; first = false {
			if within.Err() != nil && ctx.Err() == nil {
				return key, fmt.Errorf("%w: the first %d or so, in %v", idem.ErrGaveUp, looked, s.findFor)
			}
			page, err := node.Do(ctx, node.B().Scan().Cursor(cursor).Match(match).Count(findStep).Build()).AsScanEntry()
			if err != nil {
				return key, s.mapClosed(unavailable(err))
			}
			cursor = page.Cursor
			looked += findStep
			_, err = s.listNames(ctx, l.client, node, s.unseen(page.Elements, seen), &unread, func(r *idem.Record) bool {
				key = r.Key.Clone()
				return false
			})
			if err != nil || key != (idem.Key{}) {
				return key, err
			}
		}
	}
	return key, unread.Or(idem.ErrNotFound)
}

// unseen returns the names that are of records and not in seen yet.
func (s *Store) unseen(names []string, seen map[id]struct{}) (unseen []string) {
	for _, name := range names {
		k, err := hex.DecodeString(strings.TrimPrefix(name, s.prefix))
		if err != nil || len(k) != len(id{}) {
			continue // somebody else's
		}
		if _, known := seen[id(k)]; !known {
			seen[id(k)] = struct{}{}
			unseen = append(unseen, name)
		}
	}
	return unseen
}

func (s *Store) listNames(
	ctx context.Context, client, node rueidis.Client, names []string, unread *idem.Unread, visit func(*idem.Record) bool,
) (more bool, err error) {
	if len(names) == 0 {
		return true, nil
	}
	now, err := serverTime(node.Do(ctx, node.B().Time().Build()))
	if err != nil {
		return false, s.mapClosed(err)
	}
	commands := make(rueidis.Commands, 0, len(names))
	for _, name := range names {
		commands = append(commands, client.B().Getrange().Key(name).Start(0).End(namedSize-1).Build())
	}
	for i, reply := range client.DoMulti(ctx, commands...) {
		text, err := reply.ToString()
		if answered(err, "WRONGTYPE") {
			continue // somebody else's
		}
		if err != nil {
			return false, s.mapClosed(unavailable(err))
		}
		if text == "" {
			continue // expired meanwhile
		}
		r, err := idem.DecodeNamed([]byte(text))
		if errors.Is(err, idem.ErrCorrupt) && len(text) == namedSize { // a very long scope
			text, _ = client.Do(ctx, client.B().Get().Key(names[i]).Build()).ToString()
			r, err = idem.DecodeNamed([]byte(text))
		}
		if err != nil {
			if unread.Add(fmt.Sprintf("the Redis key %q", names[i]), err) {
				continue
			}
			return false, fmt.Errorf("reading a record: %w", err)
		}
		if r, err = r.Inspect(now); err != nil {
			continue // it stands for nothing
		}
		if !visit(&r) {
			return false, nil
		}
	}
	return true, nil
}

// globLiteral has SCAN take a name as it is.
func globLiteral(name string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(name)
}
