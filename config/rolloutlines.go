package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/idemproxy/idemproxy/proxy"
)

// rulesOfRollOut are about how much of the traffic is protected yet: see docs/rollout.md.
func rulesOfRollOut() []settingOfRules {
	return []settingOfRules{
		&rule[bool]{
			name: "mode", as: eitherOr("enforce", "observe"), of: func(r *Rules) *bool { return &r.Observe },
			usage: "enforce, or observe: requests are forwarded as if they had no key, and log and metrics say what would have become " +
				"of them (docs/rollout.md)",
			to: func(yes bool, p *proxy.Rules) { p.Observe = yes },
		},
		&rule[Percent]{
			name: "enforce", as: aPercentage(), of: func(r *Rules) *Percent { return &r.Enforce },
			idle: without("mode: enforce", func(r *Rules) bool { return r.Observe }),
			usage: "share of the keys that mode: enforce is for, always the same ones; all others, and requests without a key, are " +
				"observed; from 0.01% to 100%",
			def: Wholly, limit: limit[Percent]{ok: func(p Percent) bool { return p > 0 && p <= Wholly }, want: "from 0.01% to 100%"},
			to: func(p Percent, to *proxy.Rules) { to.ObservedShare = int(Wholly - p) },
		},
	}
}

// Percent is a share in hundredths of a percent, written 5% or 0.25%.
type Percent int

// Wholly is 100%.
const Wholly Percent = 100 * 100

// String implements pflag.Value.
func (p *Percent) String() string {
	return strconv.FormatFloat(float64(*p)/100, 'f', -1, 64) + "%"
}

// Set implements pflag.Value.
func (p *Percent) Set(text string) error {
	digits, isPercent := strings.CutSuffix(text, "%")
	n, err := strconv.ParseFloat(digits, 64)
	hundredths := math.Round(n * 100)
	if !isPercent || err != nil || !(n >= 0 && n <= 100) || math.Abs(n*100-hundredths) > 1e-6 {
		return fmt.Errorf("%q is not a percentage from 0%% to 100%%, such as 5%% or 0.25%%", text)
	}
	*p = Percent(hundredths)
	return nil
}

// Type implements pflag.Value.
func (*Percent) Type() string { return "percentage" }

func aPercentage() kind[Percent] { return valued(func(p *Percent) pflag.Value { return p }) }
