package sim_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/idemproxy/idemproxy/admin"
	"github.com/idemproxy/idemproxy/idem"
)

// adminToken is what operators show.
const adminToken = "operator"

// startAdmin starts the operators' side of a process.
func (w *world) startAdmin(p *process) *admin.Server {
	s := admin.New(admin.Config{
		Metrics: http.NotFoundHandler(), Token: []byte(adminToken),
		Keys: &admin.Keys{
			Store: desk{p.door, p},
			Release: func(ctx context.Context, k idem.Key, owner idem.Owner) error {
				if err := p.isAway(ctx, k); err != nil {
					return err
				}
				return p.engine.ReleaseFrom(ctx, k, owner)
			},
			Audit: func(string, string, idem.Key, error) {},
		},
	})
	ln := w.net.listen(p.name + " admin")
	w.background(func() {
		if err := s.Serve(ln); err != nil {
			w.violated("%s: %v", p.name, err)
		}
		_ = ln.Close()
	})
	return s
}

// desk is a process's way to its store for operators. Anything may happen between two of its
// calls.
type desk struct {
	*door
	p *process
}

// Get implements idem.Inspector.
func (d desk) Get(ctx context.Context, k idem.Key) (idem.Record, error) {
	if err := d.p.isDistracted(ctx, k); err != nil {
		return idem.Record{}, err
	}
	return d.door.Get(ctx, k)
}

// Resolve implements idem.Inspector.
func (d desk) Resolve(ctx context.Context, k idem.Key, owner idem.Owner, r *idem.Response) error {
	if err := d.p.isAway(ctx, k); err != nil {
		return err
	}
	return d.door.Resolve(ctx, k, owner, r)
}

// Purge implements idem.Inspector.
func (d desk) Purge(ctx context.Context, k idem.Key) error {
	if err := d.p.isAway(ctx, k); err != nil {
		return err
	}
	return d.door.Purge(ctx, k)
}

// isDistracted holds an act of an operator up, while all else goes on. The error is that the
// operator has left meanwhile.
func (p *process) isDistracted(ctx context.Context, k idem.Key) error {
	hurried := p.actor(k).hurried
	p.w.net.mu.Lock()
	chance := p.w.net.chance("is distracted " + p.name)
	p.w.net.mu.Unlock()
	longest := [...]time.Duration{0, 0, 5 * time.Millisecond, time.Second, 10 * time.Second, 40 * time.Second}[chance%6]
	if longest > 0 && !hurried {
		select {
		case <-time.After(time.Duration(chance>>8) % longest):
		case <-ctx.Done():
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", idem.ErrUnavailable, err)
	}
	return nil
}

// attends says whose act the next steps on a key are, as far as one can tell.
func (p *process) attends(key string, a *act) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.acting[key] = a
}

// isAway holds the last step of an act up. The error is as that of isDistracted.
func (p *process) isAway(ctx context.Context, k idem.Key) error {
	p.w.bell.wait(ctx, p.actor(k).away, k.Value())
	return p.isDistracted(ctx, k)
}

func (p *process) actor(k idem.Key) *act {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if a := p.acting[k.Value()]; a != nil {
		return a
	}
	return &act{}
}

// operate does what an operator does, through a process: looks, hesitates, and acts.
func (w *world) operate(p *process, a *act) {
	key := keyOf(a.key)
	p.attends(key, a)
	var record admin.Record
	if status := w.operator(p, http.MethodGet, "/keys?key="+key, nil, &record); status != http.StatusOK {
		w.note("an operator looks at %s through %s: %d", key, p.name, status)
		return
	}
	time.Sleep(a.delay) // persons do
	w.bell.wait(w.t.Context(), a.hesitates, key)
	change := admin.Change{Key: key, Confirm: true, Owner: record.Owner}
	if a.blind {
		change.Owner = ""
	}
	path := "/keys/resolve"
	switch a.kind { //nolint:exhaustive // those of operators
	case takes:
		path = "/keys/release"
	case retries:
		change.Action = "retry"
	case answered:
		change.Action, change.Status, change.Body = "complete", http.StatusOK, []byte(resolved(key, &record, a.blind))
	case purges:
		path, change.Owner = "/keys/purge", "" // which it takes none of
	}
	u := upset{key: key, operator: true, attempt: change.Owner, forgets: a.kind == purges}
	if a.kind == purges {
		u.attempt = ""
	}
	end := w.begin(&u)
	p.attends(key, a)
	status := w.operator(p, http.MethodPost, path, &change, nil)
	end()
	w.bell.ring(aChange, key)
	if a.kind == purges && status == http.StatusOK {
		w.upset(upset{key: key, operator: true, forgets: true, purged: u.at})
	}
	w.note("an operator %s %s (attempt %d, which is %s) through %s: %d", kindNames[a.kind], key, record.Attempt, record.State, p.name, status)
}

// resolved is the response that an operator resolves a key with. It says which attempt was meant,
// if one was.
func resolved(key string, seen *admin.Record, blind bool) string {
	if blind {
		return "resolved " + key
	}
	return fmt.Sprintf("resolved %s as %d", key, seen.Attempt)
}

// operator makes a request to a process's admin listener; 0 for no answer.
func (w *world) operator(p *process, method, path string, body, answer any) (status int) {
	c, err := w.net.dial(w.t.Context(), "operator", p.name+" admin")
	if err != nil {
		return 0
	}
	defer func() { _ = c.Close() }()
	_ = c.SetReadDeadline(time.Now().Add(longestPatience))
	var content []byte
	if body != nil {
		if content, err = json.Marshal(body); err != nil {
			w.t.Error(err)
			return 0
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: admin\r\nAuthorization: Bearer %s\r\nConnection: close\r\n", method, path, adminToken)
	fmt.Fprintf(&b, "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(content), content)
	_, _ = c.Write(b.Bytes())
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		return 0
	}
	defer func() { _ = resp.Body.Close() }()
	if answer != nil && resp.StatusCode == http.StatusOK {
		if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
			return 0
		}
	}
	return resp.StatusCode
}
