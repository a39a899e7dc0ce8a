package rstore

import (
	"context"
	"errors"
	"testing"
	"time"
)

// Who waits for the turns at one server has those at another, and the next turn once one ends.
func TestTurnsAreOfOneServer(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ended, end := context.WithCancel(ctx)
	end()
	turns := newTurns(1)
	done, err := turns.take(ctx, "first")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := turns.take(ended, "first"); !errors.Is(err, errNotSent) {
		t.Errorf("a turn too many: %v", err)
	}
	if _, err := turns.take(ctx, "second"); err != nil {
		t.Errorf("another server's turn: %v", err)
	}
	done()
	if _, err := turns.take(ctx, "first"); err != nil {
		t.Errorf("the next turn: %v", err)
	}
}
