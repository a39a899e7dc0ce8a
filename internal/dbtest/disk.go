package dbtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Sizes of the file systems of StartPostgresOnDisk and StartPostgresWithLogOnDisk. A file of
// the log has 16 MiB, and there is to be room for few that are kept for later use.
const (
	diskSize = 192 << 20
	logSize  = 80 << 20
)

// StartPostgresOnDisk is StartPostgres on a small file system of its own, which Fill
// fills. It needs the right to mount.
func StartPostgresOnDisk(tb testing.TB, settings ...string) *Postgres {
	tb.Helper()
	return startPostgres(tb, nil, func(p *Postgres) {
		p.small, p.smallSize = p.dir, diskSize
		mountSmall(p, 0)
	}, append([]string{"max_wal_size=64MB", "min_wal_size=32MB"}, settings...)...)
}

// StartPostgresWithLogOnDisk likewise, but only the log (WAL) is on that file system. The
// server may use more than there is: it makes no room by itself, with a checkpoint.
func StartPostgresWithLogOnDisk(tb testing.TB, settings ...string) *Postgres {
	tb.Helper()
	return startPostgres(tb, nil, func(p *Postgres) {
		p.small, p.smallSize = filepath.Join(p.dir, "wal"), logSize
		if err := os.Mkdir(p.small, 0o700); err != nil {
			tb.Fatal(err)
		}
		mountSmall(p, 0)
		p.initdb = []string{"-X", p.small}
	}, append([]string{"max_wal_size=1GB", "min_wal_size=32MB"}, settings...)...)
}

// mountSmall mounts p's small file system; with MS_REMOUNT, it gets another size.
func mountSmall(p *Postgres, flags uintptr) {
	p.tb.Helper()
	option := fmt.Sprintf("size=%d,mode=700", p.smallSize)
	if p.as != nil {
		option += fmt.Sprintf(",uid=%d,gid=%d", p.as.Uid, p.as.Gid)
	}
	if err := syscall.Mount("none", p.small, "tmpfs", flags, option); err != nil {
		p.tb.Fatalf("a file system of its own, which only root may mount: %v", err)
	}
	if flags != 0 {
		return
	}
	// After the server, and before its directory: cleanups run last to first.
	p.tb.Cleanup(func() { _ = syscall.Unmount(p.small, syscall.MNT_DETACH) })
}

// Fill leaves no space on the server's small file system. mend makes room, and has a server
// that ended for want of it serve again.
func (p *Postgres) Fill() (mend func()) {
	p.tb.Helper()
	ballast := filepath.Join(p.small, "ballast")
	f, err := os.Create(ballast) //nolint:gosec // a test's
	if err != nil {
		p.tb.Fatal(err)
	}
	for try := 0; ; try++ { // the server writes, too: what was free a moment ago may not be
		var fs syscall.Statfs_t
		if err := syscall.Statfs(p.small, &fs); err != nil {
			p.tb.Fatal(err)
		}
		if size := fs.Blocks * uint64(fs.Bsize); size != p.smallSize { //nolint:gosec // not negative
			p.tb.Fatalf("the server's file system has %d bytes, and is not one of its own", size)
		}
		free := int64(fs.Bavail) * fs.Bsize //nolint:gosec // a size that was looked at
		if free == 0 {
			break
		}
		err := syscall.Fallocate(int(f.Fd()), 0, 0, free)
		if err == nil {
			break
		}
		if !errors.Is(err, syscall.ENOSPC) || try == 100 {
			p.tb.Fatal(err)
		}
	}
	_ = f.Close()
	return func() {
		p.tb.Helper()
		_ = os.Remove(ballast)
		// Recovery needs another file of the log, and keeps those that there are.
		p.smallSize += 16 << 20
		mountSmall(p, syscall.MS_REMOUNT)
		if !p.await() {
			p.Restart()
		}
	}
}
