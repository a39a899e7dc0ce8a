package app

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"

	"github.com/idemproxy/idemproxy/idem"
)

// lifeEntry begins the names of entries that stand for what a store holds, from when it was
// first used until it loses all: its life. Every process remembers the one that it found. How
// records are named says nothing of it: the first process that misses that entry enters it
// anew, and the others would never see that it was gone.
const lifeEntry = "life:"

// emptied says whether the store has lost what it held since it was asked last. What this
// process needs there is entered anew.
func (n *names) emptied() (bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.admit() != nil {
		return false, nil // nothing was entered yet
	}
	entries, err := n.entries()
	if err != nil {
		return false, err
	}
	has := func(name string) bool {
		return slices.ContainsFunc(entries, func(e idem.Entry) bool { return e.Name == name })
	}
	life, planned := n.life, has(entryOf(n.plan))
	emptied := life == "" && !planned || life != "" && !has(life)
	if life == "" || emptied {
		if life, err = n.beginLife(entries); err != nil {
			return false, err
		}
	}
	if !planned {
		if err := n.write(n.plan); err != nil {
			return false, err
		}
	}
	n.life = life // last: until all is entered, the next look finds what this one has found
	return emptied, nil
}

// beginLife is the life that is there already, or one that it enters. Processes that begin at
// once may enter one each; all of them last, and are lost together.
func (n *names) beginLife(entries []idem.Entry) (string, error) {
	for i := range entries {
		if strings.HasPrefix(entries[i].Name, lifeEntry) {
			return entries[i].Name, nil
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), askNamesFor)
	defer cancel()
	name := lifeEntry + rand.Text()
	if err := n.store.Enter(ctx, name, `{"v":1}`, 0); err != nil {
		return "", fmt.Errorf("entering that the store is in use: %w", err)
	}
	return name, nil
}
