package estore

import (
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// The list of tables is the latest one after a power loss, too: an earlier one names tables
// that a compaction may have removed since, so that a sound store would be called damaged.
func TestTheListOfTablesOutlivesAPowerLoss(t *testing.T) {
	t.Parallel()
	fs := vfs.NewCrashableMem()
	if err := fs.MkdirAll("data", 0o700); err != nil {
		t.Fatal(err)
	}
	root, err := fs.OpenDir("")
	if err != nil {
		t.Fatal(err)
	}
	if err := root.Sync(); err != nil {
		t.Fatal(err)
	}
	g := &guard{fs: fs, dir: "data", tables: map[uint64]struct{}{}}
	for _, c := range []struct {
		what   string
		change func()
		want   []uint64
	}{
		{"two came", func() { g.add([]pebble.TableInfo{{FileNum: 1}, {FileNum: 2}}) }, []uint64{1, 2}},
		{"one goes", func() { delete(g.tables, 1) }, []uint64{2}},
	} {
		g.update(c.change)
		after := &guard{fs: fs.CrashClone(vfs.CrashCloneCfg{}), dir: "data"}
		if listed, err := after.read(); err != nil || !slices.Equal(listed, c.want) {
			t.Errorf("%s: after a power loss, %v are listed: %v; want %v", c.what, listed, err, c.want)
		}
	}
}
