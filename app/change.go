package app

import (
	"errors"
	"fmt"

	"github.com/rs/zerolog"

	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/proxy"
)

// CheckChange says what would follow of a change of settings, without asking any store: an
// error if a proxy with the new ones would not start, since it would lose records, and doubts
// of what a proxy cannot notice. Both have passed Check. Files that they name are read as they
// are now.
func CheckChange(earlier, now *config.Config) (doubts []error, err error) {
	before, err := planOf(earlier)
	if err != nil {
		return nil, fmt.Errorf("the earlier settings: %w", err)
	}
	plan, err := planOf(now)
	if err != nil {
		return nil, err
	}
	for _, s := range []struct {
		name    string
		changed bool
	}{
		{"store", earlier.Store != now.Store},
		{"store-schema", earlier.StoreSchema != now.StoreSchema},
		{"namespace", earlier.Namespace != now.Namespace},
	} {
		if s.changed {
			doubts = append(doubts, now.At(nil, s.name, errElsewhere))
		}
	}
	if err = orphanError(plan.Orphans(before), true); err != nil && now.AcceptOrphans {
		return append(doubts, now.At(nil, "accept-orphans", err)), nil
	}
	return doubts, err
}

var errElsewhere = errors.New("the earlier settings have another value. The proxy would not find the records that it has now, " +
	"so retries of completed or held keys would execute again. To prevent that, copy the records (idemproxy copy)")

// planOf is how a proxy with the settings names and compares records.
func planOf(c *config.Config) (*proxy.Plan, error) {
	tokens := newVerifiers(zerolog.Nop())
	defer tokens.close()
	pc, err := proxyConfig(c, tokens)
	if err != nil {
		return nil, err
	}
	if pc.Secret, pc.EarlierSecrets, err = readSecrets(c); err != nil {
		return nil, err
	}
	plan, err := proxy.PlanOf(&pc)
	if err != nil {
		return nil, fmt.Errorf("the proxy: %w", err)
	}
	return plan, nil
}
