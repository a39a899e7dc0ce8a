package test_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/idemproxy/idemproxy/internal/dbtest"
	"github.com/idemproxy/idemproxy/internal/toxitest"
	"github.com/idemproxy/idemproxy/proxy/backendtest"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// faultRig is what faults are done to: one or two proxies, their store, a
// backend, and a link that can be broken on every hop.
type faultRig struct {
	t      *testing.T
	policy string // of ambiguity
	args   []string

	proxies []*faultProxy
	backend *backendtest.Backend
	gates   sync.Map // key -> *gate

	redis    *redistest.Server   // the one, or the primary
	replica  *redistest.Server   // with Sentinel
	nodes    []*redistest.Server // of a Cluster
	postgres *dbtest.Postgres
	pair     *postgresPair
	clock    string // file that sets the clock of the store
	disk     string // a file system of its own, for the embedded store
	bystands []bystander
	calls    *storeCalls // nil where the store's clock is set, and where another server takes over
}

// bystander is a key that was completed: it must go on being replayed.
type bystander struct{ key, body string }

// faultProxy is a proxy with links before and behind it. Its address survives
// restarts.
type faultProxy struct {
	*process
	addr      string
	client    *toxitest.Link // client -> proxy
	toBackend *toxitest.Link
	toStore   *toxitest.Link // nil: not a single server
	store     string
	http      *http.Client
}

// gate holds the first execution of a key until it is opened.
type gate struct {
	arrived chan struct{}
	open    chan struct{}
	once    sync.Once
	twice   sync.Once
}

func (g *gate) release() { g.twice.Do(func() { close(g.open) }) }

const bodySize = 600

func (r *faultRig) respond(c backendtest.Conn, q *backendtest.Request) {
	key := q.Header.Get("X-Idempotency-Key")
	if v, ok := r.gates.Load(key); ok {
		g := v.(*gate) //nolint:forcetypeassert // ours
		g.once.Do(func() { close(g.arrived) })
		<-g.open
	}
	size := bodySize
	if q.URL.Path == "/large" {
		size = 900 << 10
	}
	body := fmt.Sprintf("execution %d of %s ", q.Number, key)
	c.Answer(http.StatusOK, body+strings.Repeat(".", size-len(body)), "Content-Type: text/plain")
}

// newFaultRig runs proxies on a store: embedded, redis, clock, sentinel, cluster,
// postgres, postgres-few, postgres-disk, postgres-wal, postgres-clock or postgres-pair.
func newFaultRig(t *testing.T, kind, policy string) *faultRig {
	t.Helper()
	r := &faultRig{t: t, policy: policy}
	r.backend = backendtest.Start(t, r.respond)
	r.args = []string{
		"--on-ambiguous", policy, "--lock-ttl", "1s", "--heartbeat", "300ms", "--store-timeout", "400ms",
		"--backend-timeout", "2s", "--connect-timeout", "500ms", "--max-wait", "5s",
	}
	if !slices.Contains([]string{"clock", "postgres-clock", "sentinel", "postgres-pair"}, kind) {
		r.calls = newStoreCalls(t, kind, 2*time.Second)
	}
	count, store := 2, ""
	switch kind {
	case "embedded":
		r.disk = ownFileSystem(t)
		count, store = 1, "embedded:"+filepath.Join(r.disk, "store")
	case "redis":
		r.redis = redistest.Start(t)
	case "clock":
		r.clock = filepath.Join(t.TempDir(), "clock")
		r.setClock(0)
		r.redis = redistest.StartEnv(t, []string{"LD_PRELOAD=" + clockLibrary(t), "CLOCK_FILE=" + r.clock})
	case "postgres":
		r.postgres = dbtest.StartPostgres(t)
	case "postgres-few":
		r.postgres = dbtest.StartPostgres(t, "max_connections=40", "superuser_reserved_connections=0", "max_wal_senders=0")
	case "postgres-disk":
		r.postgres = dbtest.StartPostgresOnDisk(t)
	case "postgres-wal":
		r.postgres = dbtest.StartPostgresWithLogOnDisk(t)
	case "postgres-pair":
		r.pair = newPostgresPair(t)
		store = r.pair.url()
	case "postgres-clock":
		r.clock = filepath.Join(t.TempDir(), "clock")
		r.setClock(0)
		r.postgres = dbtest.StartPostgresEnv(t, []string{"LD_PRELOAD=" + clockLibrary(t), "CLOCK_FILE=" + r.clock})
	case "sentinel":
		store, r.redis, r.replica = redistest.Sentinels(t)
		r.args = append(r.args, "--wait-replicas", "1")
	case "cluster":
		store, r.nodes = redistest.Cluster(t, 3)
	}
	for range count {
		p := &faultProxy{addr: fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t)), store: store}
		p.client, p.toBackend = toxitest.New(t, p.addr), toxitest.New(t, r.backend.Addr)
		switch {
		case r.postgres != nil:
			p.toStore = toxitest.New(t, r.postgres.Addr)
			p.store = "postgres://postgres@" + p.toStore.Addr + "/postgres"
		case store == "":
			p.toStore = toxitest.New(t, r.redis.Addr)
			p.store = "redis://" + p.toStore.Addr + "/0"
		}
		// A connection a request: the links are cut by the connection.
		p.http = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		r.proxies = append(r.proxies, p)
		r.run(p)
	}
	t.Cleanup(func() {
		r.gates.Range(func(_, v any) bool {
			v.(*gate).release() //nolint:forcetypeassert // ours
			return true
		})
	})
	return r
}

// run starts a proxy, again perhaps.
func (r *faultRig) run(p *faultProxy) {
	p.process = r.calls.start(r.t, launch{binary: binary}, append([]string{
		"--listen", p.addr, "--store", p.store, "--backend", "http://" + p.toBackend.Addr,
	}, r.args...)...)
}

// setClock has the wall clock of the store run ahead, or behind.
func (r *faultRig) setClock(ahead time.Duration) {
	f, err := os.OpenFile(r.clock, os.O_CREATE|os.O_WRONLY, 0o600) // not anew: it is mapped
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	seconds := int64(ahead / time.Second)
	if _, err := f.Write((*[8]byte)(unsafe.Pointer(&seconds))[:]); err != nil { // as C has it
		r.t.Fatal(err)
	}
}

func clockLibrary(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "clock.so")
	out, err := exec.CommandContext(t.Context(), "gcc", "-O2", "-shared", "-fPIC", "-o", file, "testdata/clock.c").CombinedOutput()
	if err != nil {
		t.Fatalf("compiling testdata/clock.c: %v: %s", err, out)
	}
	return file
}

// ownFileSystem is a directory with little space, so that it can be filled; or
// one like any other where this process may not mount.
func ownFileSystem(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=256m"); err != nil {
		t.Logf("no file system of its own (%v): the disk is not filled here", err)
		return dir
	}
	// After the processes that use it: cleanups run last to first.
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

func (r *faultRig) hasOwnDisk() bool {
	var fs syscall.Statfs_t
	return r.disk != "" && syscall.Statfs(r.disk, &fs) == nil && fs.Blocks*uint64(fs.Bsize) == 256<<20
}

// heard is what a client was told by one request.
type heard struct {
	status   int
	replayed bool
	body     string
	problem  string // the last word of a problem's type
	err      error  // no answer, or an incomplete one
}

func (h heard) String() string {
	switch {
	case h.err != nil:
		return "broken"
	case h.replayed:
		return fmt.Sprintf("%d replayed", h.status)
	case h.problem != "":
		return fmt.Sprintf("%d %s", h.status, h.problem)
	}
	return fmt.Sprint(h.status)
}

// ask sends a request with a key through a proxy's client link.
func (p *faultProxy) ask(ctx context.Context, key string) heard { return p.askFor(ctx, "/pay", key) }

func (p *faultProxy) askFor(ctx context.Context, path, key string) heard {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.client.Addr+path, strings.NewReader("amount=5"))
	if err != nil {
		return heard{err: err}
	}
	req.Host = serviceHost
	req.Header.Set("X-Idempotency-Key", key)
	resp, err := p.http.Do(req)
	if err != nil {
		return heard{err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	h := heard{status: resp.StatusCode, replayed: resp.Header.Get("Idempotent-Replayed") == "true"}
	var body strings.Builder
	_, h.err = copyAll(&body, resp.Body)
	h.body = body.String()
	if at := strings.Index(h.body, "/problems.md#"); at >= 0 {
		h.problem, _, _ = strings.Cut(h.body[at+len("/problems.md#"):], `"`)
	}
	return h
}

// primary is the server that takes writes with Sentinel, and the other one.
func (r *faultRig) primary() (primary, other *redistest.Server) {
	if r.redis.IsPrimary() {
		return r.redis, r.replica
	}
	return r.replica, r.redis
}

func copyAll(to io.Writer, from io.Reader) (int64, error) {
	n, err := io.Copy(to, from)
	if err != nil {
		return n, fmt.Errorf("after %d bytes: %w", n, err)
	}
	return n, nil
}
