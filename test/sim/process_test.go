package sim_test

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/idemproxy/idemproxy/admin"
	"github.com/idemproxy/idemproxy/estore"
	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/idem/storetest"
	"github.com/idemproxy/idemproxy/internal/recipes"
	"github.com/idemproxy/idemproxy/proxy"
	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/upstream"
)

// process is one life of a proxy.
type process struct {
	w        *world
	name     string // p0.1 is the first life of the first proxy
	number   int
	life     int
	dir      string // of the embedded store
	door     *door
	register *register
	recipes  *recipes.Texts
	engine   *idem.Engine
	server   *proxy.Server
	listener *listener
	served   chan error
	admin    *admin.Server
	dead     bool      // killed, or being shut down
	stopped  time.Time // when that began
	joins    bool      // requests may have joined others there
	stopping bool      // it is being shut down, and nobody has been forgotten

	acting map[string]*act // of operators, on keys; guarded by w.mu
}

// start begins the next life of a proxy.
func (w *world) start(number, life int, dir string) *process {
	p := &process{w: w, number: number, life: life, dir: dir, name: fmt.Sprintf("p%d.%d", number, life), served: make(chan error, 1), acting: map[string]*act{}}
	w.await(func() {
		p.door = &door{whole: w.traces.store(p, p.store()), w: w, process: p.name, calls: map[string]int{}}
	})
	p.engine = idem.NewEngine(idem.Config{Store: w.traces.asked.Wrap(p.door), Trace: idem.Trace{
		LeaseLost: func(k idem.Key, attempt uint32, at idem.Event) { w.leaseLost(p, k, attempt, at) },
	}})
	p.register = &register{p: p}
	p.recipes = recipes.New(p.register)
	c := p.config(w.plan.waiting, w.plan.recipes[number])
	c.Recipes, c.RecipeUnread = p.recipes.Get, p.unread // a reload does not have them: they are the server's
	w.enter(c)
	s, err := proxy.New(c)
	if err != nil {
		w.t.Fatal(err)
	}
	p.server = s
	p.listener = w.net.listen(p.name)
	go func() {
		p.standsStill() // it may be shut down meanwhile
		p.served <- s.Serve(p.listener)
	}()
	p.admin = w.startAdmin(p)
	w.note("%s starts", p.name)
	return p
}

// store opens the process's store.
func (p *process) store() whole {
	switch p.w.plan.store {
	case "memory":
		return p.w.memory
	case "redis":
		return p.w.openRedis(func(ctx context.Context, _, _ string) (net.Conn, error) { return p.w.net.dial(ctx, p.name, "redis") })
	default:
		s, err := estore.New(estore.Config{Dir: p.dir, Timeout: storeTimeout})
		if err != nil {
			p.w.t.Fatal(err)
		}
		return s
	}
}

// openRedis opens the store on Redis.
func (w *world) openRedis(dial func(ctx context.Context, network, addr string) (net.Conn, error)) *rstore.Store {
	s, err := rstore.New(rstore.Config{URL: "redis://redis:6379/0", Timeout: storeTimeout, Dial: dial})
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// config is how the process treats requests.
func (p *process) config(how waiting, recipe int) proxy.Config {
	policy := idem.DefaultPolicy()
	policy.OnAmbiguous = p.w.plan.policy
	by := p.w.recipes[recipe]
	p.joins = p.joins || how == joins
	rules := proxy.Rules{
		Policy: policy, Fingerprint: by.fingerprint, BackendTimeout: backendTimeout, MaxWait: longestWait, Wait: how != rejects,
		Stream: how == joins, Join: how == joins, ReadOn: time.Minute, Outcomes: true,
		BindHeaders: by.bind, Answers: proxy.Answers{MarkName: "Sim-Mark", MarkValue: "{key}"},
	}
	if policy.OnAmbiguous == idem.AmbiguousSettle {
		rules.Receipts = receipts{p.w}
	}
	return proxy.Config{
		Rules: rules, Engine: p.engine, SettleEvery: time.Minute,
		Upstream: upstream.Config{Backends: []string{"http://10.1.1.1:80"}},
		Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return p.w.net.dial(ctx, p.name, "backend")
		},
	}
}

// kill ends the process at once: nothing that it does afterwards is seen by anybody.
func (p *process) kill() {
	p.dead = true
	p.door.set(gone, all)
	p.w.net.sever(p.name)
	p.w.note("%s is killed", p.name)
	if p.dir != "" {
		p.dir = copied(p.w, p.dir, p.name)
	}
	p.w.background(p.end)
}

// end frees what a process has.
func (p *process) end() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = p.server.Shutdown(ctx)
	p.ends()
	p.engine.Close(ctx)
	p.close()
}

// ends waits until the process does not serve any more, which it does not after its shutdown.
func (p *process) ends() {
	select {
	case err := <-p.served:
		if err != nil {
			p.w.violated("%s: serving: %v", p.name, err)
		}
	case <-time.After(longestStart):
		p.w.violated("%s: serves after it was shut down", p.name)
		_ = p.listener.Close()
		p.w.note("%s: serving: %v", p.name, <-p.served)
	}
}

// longestStart is how long it may take until a process serves.
const longestStart = 2 * time.Second

// close closes the process's own store.
func (p *process) close() {
	_ = p.admin.Close()
	if p.w.plan.store != "memory" {
		_ = p.door.Close()
	}
}

// longestDrain is for how long a process that is shut down may finish what is under way.
const longestDrain = 3 * time.Minute

// shutdown ends the process as by SIGTERM, and waits for that.
func (p *process) shutdown() {
	p.dead, p.stopping, p.stopped = true, true, time.Now()
	p.w.note("%s is shut down", p.name)
	p.server.Leave()
	begun := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), longestDrain)
	defer cancel()
	if err := p.server.Shutdown(ctx); err != nil {
		p.w.violated("%s: does not end: %v", p.name, err)
	}
	p.ends()
	p.engine.Close(ctx)
	p.close()
	p.w.note("%s has ended, after %v", p.name, time.Since(begun).Truncate(time.Second))
}

// copied is a copy of a directory, as it stands: what a process leaves that is killed.
func copied(w *world, dir, name string) string {
	to := filepath.Join(w.dir, name)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, name), 0o700)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), content, 0o600)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return to
}

var _ whole = (*storetest.Memory)(nil)
