package rstore_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/idem"
	"github.com/idemproxy/idemproxy/rstore"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// Whatever a failover must not undo is acknowledged only once the replicas have it: who
// hears that it is done acts on that.
func TestNothingIsDoneThatReplicasLack(t *testing.T) { //nolint:tparallel // one link to the replica serves all
	t.Parallel()
	primary := redistest.Start(t)
	replica := redistest.Replica(t, primary)
	s := open(t, rstore.Config{URL: primary.URL(), WaitReplicas: 1, Timeout: time.Second})
	response := &idem.Response{Status: 200, Body: []byte("ok")}
	running := func(c idem.Claim) { must(t, s, c) }
	held := func(c idem.Claim) {
		must(t, s, c)
		if err := s.Hold(t.Context(), c.Lease()); err != nil {
			t.Fatal(err)
		}
	}
	acts := map[string]struct {
		before func(idem.Claim)
		act    func(context.Context, idem.Claim) error
	}{
		"acquire": {func(idem.Claim) {}, func(ctx context.Context, c idem.Claim) error {
			_, err := s.Acquire(ctx, c)
			return err
		}},
		"complete":                {running, func(ctx context.Context, c idem.Claim) error { return s.Complete(ctx, c.Lease(), response) }},
		"hold":                    {running, func(ctx context.Context, c idem.Claim) error { return s.Hold(ctx, c.Lease()) }},
		"take":                    {running, func(ctx context.Context, c idem.Claim) error { return s.Take(ctx, c.Key, c.Owner) }},
		"settle":                  {held, func(ctx context.Context, c idem.Claim) error { return s.Complete(ctx, c.Lease(), response) }},
		"resolve as executed":     {held, func(ctx context.Context, c idem.Claim) error { return s.Resolve(ctx, c.Key, idem.Owner{}, response) }},
		"resolve as not executed": {held, func(ctx context.Context, c idem.Claim) error { return s.Resolve(ctx, c.Key, idem.Owner{}, nil) }},
		"resolve as executed, without a response": {held, func(ctx context.Context, c idem.Claim) error {
			return s.Resolve(ctx, c.Key, idem.Owner{}, &idem.Response{Status: 200, BodyOmitted: true})
		}},
	}
	claims := map[string]idem.Claim{}
	for name, a := range acts {
		c := claim(name)
		c.HoldOnLapse = true
		a.before(c)
		claims[name] = c
	}
	replica.Kill()
	for name, a := range acts {
		t.Run(name, func(t *testing.T) {
			err := a.act(t.Context(), claims[name])
			if !errors.Is(err, idem.ErrUnavailable) || errors.Is(err, idem.ErrRefused) {
				t.Errorf("without the replica: %v", err)
			}
		})
	}
}

// All replicas are as many as there ever were, those included that came later.
func TestAReplicaThatComesLaterIsWaitedFor(t *testing.T) {
	t.Parallel()
	primary := redistest.Start(t)
	redistest.Replica(t, primary)
	s := open(t, rstore.Config{URL: primary.URL(), WaitReplicas: rstore.AllReplicas, Timeout: 4 * time.Second})
	awaitReady(t, s)
	completed(t, s, "with one")
	second := redistest.Replica(t, primary)
	looked := primary.Calls()["info"]
	for ours := 0; primary.Calls()["info"] < looked+ours+4; ours++ { // until the store has looked at its primary, too
		time.Sleep(50 * time.Millisecond)
	}
	second.Kill()
	if _, err := s.Acquire(t.Context(), claim("with one of two")); !errors.Is(err, idem.ErrUnavailable) {
		t.Errorf("with one of two: %v", err)
	}
}
