package estore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// ErrDamaged says that files of the store were changed or lost. It comes
// wrapped, with what is known. Nothing has been changed by having looked.
var ErrDamaged = errors.New("the store is damaged")

// guardFile lists the tables that the engine's index must know.
const guardFile = "TABLES"

// guard keeps a list of the engine's tables beside the engine's own index (its
// MANIFEST). The engine takes an index that breaks off for one whose end did not
// make it to the disk, forgets the tables that only the rest would have named,
// and deletes them: records would be gone without a word, and what they stand
// for could be executed again. With the list, a store that has lost tables is
// not opened.
//
// A table is listed once the index has it, and unlisted before a compaction may
// remove it; so whenever the process ends, what is listed is in the index.
type guard struct {
	fs  vfs.FS
	dir string
	log *engineLog

	mu     sync.Mutex
	tables map[uint64]struct{} // guarded by mu
}

// check compares the list, if there is one, with the index, without changing
// either.
func (g *guard) check(o *pebble.Options) error {
	listed, err := g.read()
	if err != nil || len(listed) == 0 {
		return err
	}
	ro := *o
	ro.ReadOnly, ro.EventListener = true, nil
	db, err := pebble.Open(g.dir, &ro)
	if err != nil {
		return err //nolint:wrapcheck // openDB does
	}
	have, err := tablesOf(db)
	if err = errors.Join(err, db.Close()); err != nil {
		return err
	}
	for _, t := range listed {
		if _, ok := have[t]; !ok {
			return fmt.Errorf("%w: its index (MANIFEST) does not know table %06d.sst any more; restore the directory from a "+
				"backup, or delete %s in it to accept that records are lost, and with them the protection of their keys",
				ErrDamaged, t, guardFile)
		}
	}
	return nil
}

// start takes over what an open store has. Call it before anything is written.
func (g *guard) start(db *pebble.DB) error {
	have, err := tablesOf(db)
	if err != nil {
		return err
	}
	g.update(func() {
		for t := range have {
			g.tables[t] = struct{}{}
		}
	})
	return nil
}

func tablesOf(db *pebble.DB) (map[uint64]struct{}, error) {
	levels, err := db.SSTables()
	if err != nil {
		return nil, fmt.Errorf("listing the store's tables: %w", err)
	}
	have := make(map[uint64]struct{})
	for _, level := range levels {
		for i := range level {
			have[uint64(level[i].FileNum)] = struct{}{}
		}
	}
	return have, nil
}

// listener keeps the list in step.
func (g *guard) listener() *pebble.EventListener {
	return &pebble.EventListener{
		FlushEnd: func(f pebble.FlushInfo) {
			if f.Err == nil {
				g.update(func() { g.add(f.Output) })
			}
		},
		CompactionBegin: func(c pebble.CompactionInfo) {
			g.update(func() {
				for _, level := range c.Input {
					for i := range level.Tables {
						delete(g.tables, uint64(level.Tables[i].FileNum))
					}
				}
			})
		},
		CompactionEnd: func(c pebble.CompactionInfo) {
			g.update(func() {
				if c.Err == nil {
					g.add(c.Output.Tables)
					return
				}
				for _, level := range c.Input {
					g.add(level.Tables)
				}
			})
		},
	}
}

func (g *guard) add(tables []pebble.TableInfo) {
	for i := range tables {
		g.tables[uint64(tables[i].FileNum)] = struct{}{}
	}
}

// update changes the list and writes it. One that cannot be written is removed:
// no list is better than a wrong one.
func (g *guard) update(change func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change()
	if err := g.write(); err != nil {
		err = errors.Join(err, g.fs.Remove(g.fs.PathJoin(g.dir, guardFile)))
		g.log.Errorf("the list of tables cannot be written: %v", err)
	}
}

func (g *guard) write() error {
	tables := make([]uint64, 0, len(g.tables))
	for t := range g.tables {
		tables = append(tables, t)
	}
	slices.Sort(tables)
	list, err := json.Marshal(tables)
	if err != nil {
		return fmt.Errorf("encoding the list of tables: %w", err)
	}
	path := g.fs.PathJoin(g.dir, guardFile)
	f, err := g.fs.Create(path+".new", vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("writing the list of tables: %w", err)
	}
	_, err = fmt.Fprintf(f, "%s\n%08x\n", list, crc32.ChecksumIEEE(list))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = g.fs.Rename(path+".new", path)
	}
	if err == nil {
		var dir vfs.File
		if dir, err = g.fs.OpenDir(g.dir); err == nil {
			err = errors.Join(dir.Sync(), dir.Close())
		}
	}
	if err != nil {
		return fmt.Errorf("writing the list of tables: %w", err)
	}
	return nil
}

// read is nil if there is no list.
func (g *guard) read() ([]uint64, error) {
	f, err := g.fs.Open(g.fs.PathJoin(g.dir, guardFile))
	if err != nil {
		return nil, nil //nolint:nilerr // a new store, or one of an earlier version
	}
	text, err := io.ReadAll(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("reading %s: %w", guardFile, err)
	}
	list, sum, _ := bytes.Cut(text, []byte("\n"))
	var tables []uint64
	if strings.TrimSpace(string(sum)) != fmt.Sprintf("%08x", crc32.ChecksumIEEE(list)) || json.Unmarshal(list, &tables) != nil {
		return nil, fmt.Errorf("%w: its list of tables (%s) is not what was written; "+
			"if every other file is known to be good, delete it", ErrDamaged, guardFile)
	}
	return tables, nil
}
