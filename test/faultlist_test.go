package test_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// moment is when a fault happens to a request.
type moment string

const (
	before  moment = "before"  // it is sent
	working moment = "working" // the backend has it
	after   moment = "after"   // it was answered
)

// fault is something that goes wrong.
type fault struct {
	name string
	on   []string // kinds of rigs
	when []moment

	// ambiguous: the backend may have executed and nobody can know, so that with
	// on_ambiguous: release the operation may run again.
	ambiguous bool
	// loses: the store forgets what it had acknowledged. No proxy can help that.
	loses bool

	// inject does it, and returns what undoes it.
	inject func(r *faultRig, rng *rand.Rand) (mend func())
	// lasts is how long it stays, beside what a client notices of it.
	lasts time.Duration
}

var (
	always     = []moment{before, working, after}
	inFlight   = []moment{working}
	everywhere = []string{"embedded", "redis", "sentinel", "cluster", "postgres"}
	anyRedis   = []string{"redis", "sentinel", "cluster"}
	one        = []string{"redis"}
	linked     = []string{"redis", "postgres"}
)

func nothing() {}

// faults is the list. The first proxy is the one that the request goes to.
func faults() []fault {
	return slices.Concat(processFaults(), backendFaults(), clientFaults(), storeLinkFaults(), redisFaults(), postgresFaults(), topologyFaults(),
		diskFaults())
}

func processFaults() []fault {
	return []fault{
		{
			name: "proxy: kill -9", on: everywhere, when: always, ambiguous: true,
			inject: func(r *faultRig, _ *rand.Rand) func() {
				r.proxies[0].kill()
				return func() { r.run(r.proxies[0]) }
			},
		},
		{
			name: "proxy: SIGSTOP for longer than the lease", on: everywhere, when: inFlight, ambiguous: true, lasts: 1500 * time.Millisecond,
			inject: func(r *faultRig, _ *rand.Rand) func() {
				r.proxies[0].signal(syscall.SIGSTOP)
				return func() { r.proxies[0].signal(syscall.SIGCONT) }
			},
		},
		{
			name: "proxy: SIGSTOP for less than the lease", on: everywhere, when: always, lasts: 300 * time.Millisecond,
			inject: func(r *faultRig, _ *rand.Rand) func() {
				r.proxies[0].signal(syscall.SIGSTOP)
				return func() { r.proxies[0].signal(syscall.SIGCONT) }
			},
		},
		{
			name: "proxy: SIGTERM and restart", on: everywhere, when: []moment{before, after},
			inject: func(r *faultRig, _ *rand.Rand) func() {
				r.proxies[0].stop()
				return func() { r.run(r.proxies[0]) }
			},
		},
	}
}

// toxic puts one on the links that pick names.
func toxic(pick func(*faultProxy) toxicLink, kind, stream string, attributes func(*rand.Rand) string) func(*faultRig, *rand.Rand) func() {
	return func(r *faultRig, rng *rand.Rand) func() {
		var mends []func()
		for _, p := range r.proxies {
			mends = append(mends, pick(p).Add("fault", kind, stream, attributes(rng)))
		}
		return func() {
			for _, mend := range mends {
				mend()
			}
		}
	}
}

type toxicLink interface {
	Add(name, kind, stream, attributes string) func()
	Cut() func()
}

func toBackend(p *faultProxy) toxicLink { return p.toBackend }
func toStore(p *faultProxy) toxicLink   { return p.toStore }
func fromClient(p *faultProxy) toxicLink {
	return p.client
}

func fixed(attributes string) func(*rand.Rand) string {
	return func(*rand.Rand) string { return attributes }
}

// cutAfter cuts after any number of bytes up to most.
func cutAfter(most int) func(*rand.Rand) string {
	return func(rng *rand.Rand) string { return fmt.Sprintf(`{"bytes":%d}`, rng.IntN(most)) }
}

func cut(pick func(*faultProxy) toxicLink) func(*faultRig, *rand.Rand) func() {
	return func(r *faultRig, _ *rand.Rand) func() {
		var mends []func()
		for _, p := range r.proxies {
			mends = append(mends, pick(p).Cut())
		}
		return func() {
			for _, mend := range mends {
				mend()
			}
		}
	}
}

func backendFaults() []fault {
	const answer = bodySize + 80 // bytes, header and all
	return []fault{
		{name: "backend: unreachable", on: everywhere, when: []moment{before, after}, inject: cut(toBackend)},
		{name: "backend: connection cut", on: everywhere, when: inFlight, ambiguous: true, inject: cut(toBackend)},
		{
			name: "backend: cut after some bytes of the response", on: everywhere, when: inFlight, ambiguous: true,
			inject: toxic(toBackend, "limit_data", "downstream", cutAfter(answer)),
		},
		{
			name: "backend: reset", on: everywhere, when: inFlight, ambiguous: true,
			inject: toxic(toBackend, "reset_peer", "downstream", fixed(`{"timeout":0}`)),
		},
		{
			name: "backend: cut after some bytes of the request", on: everywhere, when: []moment{before}, ambiguous: true,
			inject: toxic(toBackend, "limit_data", "upstream", cutAfter(400)),
		},
		{
			name: "backend: slow network", on: everywhere, when: always,
			inject: toxic(toBackend, "latency", "downstream", fixed(`{"latency":200,"jitter":100}`)),
		},
		{
			name: "backend: a few bytes at a time", on: everywhere, when: always,
			inject: toxic(toBackend, "slicer", "downstream", fixed(`{"average_size":7,"size_variation":3,"delay":100}`)),
		},
		{
			name: "backend: silent", on: everywhere, when: inFlight, ambiguous: true, lasts: 2500 * time.Millisecond,
			inject: toxic(toBackend, "timeout", "downstream", fixed(`{"timeout":0}`)),
		},
		{
			name: "backend: closes kept connections", on: everywhere, when: []moment{before, after},
			inject: func(r *faultRig, _ *rand.Rand) func() {
				r.backend.CloseConns()
				return nothing
			},
		},
	}
}

func clientFaults() []fault {
	return []fault{
		{name: "client: connection cut", on: everywhere, when: inFlight, inject: cut(fromClient)},
		{
			name: "client: cut after some bytes of the request", on: everywhere, when: []moment{before},
			inject: toxic(fromClient, "limit_data", "upstream", cutAfter(300)),
		},
		{
			name: "client: cut after some bytes of the response", on: everywhere, when: always,
			inject: toxic(fromClient, "limit_data", "downstream", cutAfter(900)),
		},
		{
			name: "client: slow network", on: everywhere, when: always,
			inject: toxic(fromClient, "latency", "upstream", fixed(`{"latency":150,"jitter":100}`)),
		},
	}
}

func storeLinkFaults() []fault {
	return []fault{
		{name: "store link: cut", on: linked, when: always, inject: cut(toStore), lasts: 300 * time.Millisecond},
		{name: "store link: cut for longer than the lease", on: linked, when: inFlight, ambiguous: true, inject: cut(toStore), lasts: 1500 * time.Millisecond},
		{
			name: "store link: cut after some bytes of a reply", on: linked, when: always, ambiguous: true,
			inject: toxic(toStore, "limit_data", "downstream", cutAfter(200)),
		},
		{
			name: "store link: cut after some bytes of a command", on: linked, when: always, ambiguous: true,
			inject: toxic(toStore, "limit_data", "upstream", cutAfter(600)),
		},
		{
			name: "store link: slow", on: linked, when: always,
			inject: toxic(toStore, "latency", "downstream", fixed(`{"latency":100,"jitter":50}`)),
		},
		{
			name: "store link: silent", on: linked, when: always, ambiguous: true, lasts: 1200 * time.Millisecond,
			inject: toxic(toStore, "timeout", "downstream", fixed(`{"timeout":0}`)),
		},
		{
			name: "store link: reset", on: linked, when: always,
			inject: toxic(toStore, "reset_peer", "downstream", fixed(`{"timeout":0}`)), lasts: 200 * time.Millisecond,
		},
	}
}

// command runs one on the primary, and another one to undo it.
func command(undo string, do ...string) func(*faultRig, *rand.Rand) func() {
	return func(r *faultRig, _ *rand.Rand) func() {
		servers := r.nodes
		if servers == nil {
			server, _ := r.primaryOr()
			servers = []*redistest.Server{server}
		}
		for _, s := range servers {
			s.Do(do...)
		}
		return func() {
			for _, s := range servers {
				if undo != "" {
					s.Do(strings.Fields(undo)...)
				}
			}
		}
	}
}

func redisFaults() []fault {
	return []fault{
		{
			name: "redis: kill -9 and restart", on: one, when: always, ambiguous: true,
			inject: func(r *faultRig, _ *rand.Rand) func() {
				r.redis.Kill()
				return r.redis.Restart
			},
		},
		{
			name: "redis: SIGSTOP", on: one, when: always, ambiguous: true, lasts: 600 * time.Millisecond,
			inject: func(r *faultRig, _ *rand.Rand) func() { return r.redis.Stall() },
		},
		{name: "redis: SCRIPT FLUSH", on: anyRedis, when: always, inject: command("", "SCRIPT", "FLUSH")},
		{name: "redis: CLIENT KILL", on: anyRedis, when: always, inject: command("", "CLIENT", "KILL", "TYPE", "normal")},
		{name: "redis: FLUSHALL", on: []string{"redis", "cluster"}, when: always, ambiguous: true, loses: true, inject: command("", "FLUSHALL")},
		{
			name: "redis: out of memory", on: anyRedis, when: always, ambiguous: true, lasts: 200 * time.Millisecond,
			inject: command("CONFIG SET maxmemory 0", "CONFIG", "SET", "maxmemory", "1"),
		},
		{
			name: "redis: READONLY", on: one, when: always, ambiguous: true, lasts: 200 * time.Millisecond,
			inject: command("REPLICAOF NO ONE", "REPLICAOF", "127.0.0.1", "1"),
		},
		{name: "redis: BUSY", on: one, when: always, ambiguous: true, lasts: 600 * time.Millisecond, inject: busy},
		{
			name: "redis: CLIENT PAUSE", on: anyRedis, when: always, lasts: 200 * time.Millisecond,
			inject: command("", "CLIENT", "PAUSE", "200", "ALL"),
		},
		{
			name: "clock of Redis: an hour forward", on: []string{"clock"}, when: always, ambiguous: true,
			inject: func(r *faultRig, _ *rand.Rand) func() {
				r.setClock(time.Hour)
				return func() { r.setClock(0) }
			},
		},
		{
			name: "clock of Redis: an hour back", on: []string{"clock"}, when: always,
			inject: func(r *faultRig, _ *rand.Rand) func() {
				r.setClock(-time.Hour)
				return func() { r.setClock(0) }
			},
		},
	}
}

// busy has Redis run a script that does not end.
func busy(r *faultRig, _ *rand.Rand) func() {
	r.redis.Do("CONFIG", "SET", "busy-reply-threshold", "50")
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.redis.Try("EVAL", "while true do end", "0") // until it is killed
	}()
	return func() {
		for range 200 { // it is not killed before it is busy
			if r.redis.Try("SCRIPT", "KILL") == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		<-done
	}
}

func topologyFaults() []fault {
	return []fault{
		{
			name: "sentinel: the primary dies", on: []string{"sentinel"}, when: always, ambiguous: true,
			inject: func(r *faultRig, _ *rand.Rand) func() {
				dead, other := r.primary()
				dead.Kill()
				return func() { r.failedOver(dead, other) }
			},
		},
		{
			name: "sentinel: the replica dies", on: []string{"sentinel"}, when: always, ambiguous: true,
			inject: func(r *faultRig, _ *rand.Rand) func() {
				primary, replica := r.primary()
				replica.Kill()
				return func() { r.joins(replica, primary) }
			},
		},
		{
			name: "cluster: a node dies and comes back", on: []string{"cluster"}, when: always, ambiguous: true, lasts: 300 * time.Millisecond,
			inject: func(r *faultRig, rng *rand.Rand) func() {
				node := r.nodes[rng.IntN(len(r.nodes))]
				node.Kill()
				return node.Restart
			},
		},
		{
			name: "cluster: a node stands still", on: []string{"cluster"}, when: always, ambiguous: true, lasts: 600 * time.Millisecond,
			inject: func(r *faultRig, rng *rand.Rand) func() { return r.nodes[rng.IntN(len(r.nodes))].Stall() },
		},
	}
}

// failedOver waits until the other server is the primary, and has the dead one
// join it.
func (r *faultRig) failedOver(dead, other *redistest.Server) {
	eventually(r.t, "the other server becomes the primary", other.IsPrimary)
	r.joins(dead, other)
}

func (r *faultRig) joins(server, primary *redistest.Server) {
	server.Restart()
	host, port, _ := strings.Cut(primary.Addr, ":")
	eventually(r.t, "the server is in step again", func() bool {
		if server.IsPrimary() {
			_ = server.Try("REPLICAOF", host, port) // or Sentinel does it
		}
		return primary.HasReplica()
	})
}

// primaryOr is the server that commands go to.
func (r *faultRig) primaryOr() (primary, other *redistest.Server) {
	if r.replica != nil {
		return r.primary()
	}
	return r.redis, nil
}

func diskFaults() []fault {
	return []fault{
		{
			name: "disk: nearly full", on: []string{"embedded"}, when: always, ambiguous: true, lasts: 200 * time.Millisecond,
			inject: func(r *faultRig, _ *rand.Rand) func() {
				mend := r.fillDisk(100 << 20)
				r.untilRefused(r.hasOwnDisk())
				return mend
			},
		},
		{
			name: "disk: full", on: []string{"embedded"}, when: always, ambiguous: true,
			inject: func(r *faultRig, rng *rand.Rand) func() {
				mend := r.fillDisk(0)
				if r.hasOwnDisk() { // the engine has some space in hand: use it up
					for i := range 100 {
						key := fmt.Sprintf("large-%d-%d", rng.Uint64(), i)
						if h := r.proxies[0].askFor(context.Background(), "/large", key); h.status != 200 {
							break
						}
					}
				}
				return mend
			},
		},
	}
}

// fillDisk leaves so many bytes of the store's file system. A proxy that ended
// because of it is started again.
func (r *faultRig) fillDisk(leave int64) func() {
	if !r.hasOwnDisk() {
		return nothing
	}
	ballast := filepath.Join(r.disk, "ballast")
	var fs syscall.Statfs_t
	if err := syscall.Statfs(r.disk, &fs); err != nil {
		r.t.Fatal(err)
	}
	f, err := os.Create(ballast)
	if err != nil {
		r.t.Fatal(err)
	}
	free := int64(fs.Bavail) * fs.Bsize
	if err := syscall.Fallocate(int(f.Fd()), 0, 0, max(free-leave, 1)); err != nil {
		r.t.Fatal(err)
	}
	_ = f.Close()
	return func() {
		_ = os.Remove(ballast)
		r.untilRefused(false)
	}
}

// untilRefused waits until the proxy has noticed how full the disk is. One that
// has ended because of it, which it may do only at its next write, is started
// again, as a supervisor would.
func (r *faultRig) untilRefused(refused bool) {
	i := 0
	eventually(r.t, "the proxy notices the disk", func() bool {
		select {
		case <-r.proxies[0].done:
			// While the engine rotates its log, the runtime ends the process
			// before anybody can write a line: that leaves the engine's stack.
			if log := r.proxies[0].text(); !strings.Contains(log, "store_engine_failed") && !strings.Contains(log, ").rotateWAL(") {
				r.t.Errorf("the proxy ended, and not because its store failed")
			}
			r.run(r.proxies[0])
		default:
		}
		i++
		h := r.proxies[0].ask(context.Background(), fmt.Sprintf("probe-%d-%d", time.Now().UnixNano(), i))
		return h.err == nil && (h.status == 500) == refused
	})
}
