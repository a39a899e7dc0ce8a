package config

import (
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"github.com/idemproxy/idemproxy/proxy"
)

// Meanwhile is what a request does while its key is in progress.
type Meanwhile uint8

// What it may do.
const (
	MeanwhileReject Meanwhile = iota
	MeanwhileWait
	MeanwhileJoin
)

// String implements pflag.Value.
func (m *Meanwhile) String() string {
	switch *m {
	case MeanwhileWait:
		return "wait"
	case MeanwhileJoin:
		return "join"
	case MeanwhileReject:
	}
	return "reject"
}

// Set implements pflag.Value.
func (m *Meanwhile) Set(text string) error {
	for one := MeanwhileReject; one <= MeanwhileJoin; one++ {
		if text == one.String() {
			*m = one
			return nil
		}
	}
	return fmt.Errorf("%q is none of %q, %q and %q", text, "reject", "wait", "join")
}

// Type implements pflag.Value.
func (*Meanwhile) Type() string { return "policy" }

func aMeanwhile() kind[Meanwhile] {
	return valued(func(m *Meanwhile) pflag.Value { return m })
}

// rulesOfStreams are about responses that are passed on as they come: see docs/streams.md.
func rulesOfStreams() []settingOfRules {
	streamsNothing := without("stream-responses", func(r *Rules) bool { return !r.Stream })
	return []settingOfRules{
		&rule[bool]{
			name: "stream-responses", as: aSwitch(), of: func(r *Rules) *bool { return &r.Stream },
			usage: "pass responses to requests with a key on as they come, while they are recorded: those of unknown length, such as " +
				"text/event-stream, and those above stream-above (docs/streams.md)",
			to: func(yes bool, p *proxy.Rules) { p.Stream = yes },
		},
		&rule[Size]{
			name: "stream-above", as: aSize(), of: func(r *Rules) *Size { return &r.StreamAbove }, idle: streamsNothing,
			usage: "largest response of known length that is sent only when it is complete and recorded", def: 64 << 10,
			limit: inMemory(256 << 20), to: func(n Size, p *proxy.Rules) { p.StreamAbove = int(n) },
		},
		&rule[time.Duration]{
			name: "read-on", as: aDuration(), of: func(r *Rules) *time.Duration { return &r.ReadOn }, idle: streamsNothing,
			usage: "how long the proxy continues to read such a response after its last client has left; then it counts as " +
				"cut; 0 for no time",
			def: time.Minute, limit: fromZero("not", 24*time.Hour), to: func(d time.Duration, p *proxy.Rules) { p.ReadOn = d },
		},
	}
}
