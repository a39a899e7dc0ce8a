package config

import (
	"slices"
	"strings"

	"github.com/idemproxy/idemproxy/proxy"
)

// rulesOfAnswers are about how the proxy's own answers look.
func rulesOfAnswers() []settingOfRules {
	return []settingOfRules{
		&rule[string]{
			name: "preset", as: aText(), of: func(r *Rules) *string { return &r.Preset },
			usage: "settings for the clients of a known API; what is set elsewhere wins: " + strings.Join(presetNames(), ", ") +
				"; empty for none (docs/presets.md)",
			careful: true, limit: limit[string]{
				want: "one of " + strings.Join(presetNames(), ", "),
				ok:   func(s string) bool { return s == "" || slices.Contains(presetNames(), s) },
			},
			made: func(*Rules, *proxy.Rules) error { return nil }, // the other settings have it
		},
		&rule[string]{
			name: "errors-as", as: aText(), of: func(r *Rules) *string { return &r.ErrorsAs }, def: proxy.ShapeProblem,
			usage: "form of the errors that the proxy answers with itself: " + strings.Join(proxy.Shapes(), ", "),
			limit: limit[string]{
				want: "one of " + strings.Join(proxy.Shapes(), ", "), ok: func(s string) bool { return slices.Contains(proxy.Shapes(), s) },
			},
			to: func(s string, p *proxy.Rules) { p.Answers.Shape = s },
		},
		&rule[int]{
			name: "mismatch-status", as: aCount(), of: func(r *Rules) *int { return &r.MismatchStatus }, def: 422,
			usage: "status of a request whose key was used for another request: 400, 409 or 422",
			limit: oneOf(400, 409, 422), to: func(n int, p *proxy.Rules) { p.Answers.Mismatch = n },
		},
		&rule[int]{
			name: "in-progress-status", as: aCount(), of: func(r *Rules) *int { return &r.InProgressStatus }, def: 409,
			usage: "status of a request whose key is in progress: 400, 409, 423, 425, 429 or 503",
			limit: oneOf(400, 409, 423, 425, 429, 503), to: func(n int, p *proxy.Rules) { p.Answers.InProgress = n },
		},
		&rule[string]{
			name: "replay-marker", as: aText(), of: func(r *Rules) *string { return &r.ReplayMarker },
			usage: "header that marks replays beside Idempotent-Replayed, such as X-Replayed: yes; {key} stands for the key; empty " +
				"for none",
			fits: func(r *Rules) string {
				if _, _, err := marker(r.ReplayMarker); err != nil {
					return err.Error()
				}
				return ""
			},
			made: func(r *Rules, p *proxy.Rules) (err error) {
				p.Answers.MarkName, p.Answers.MarkValue, err = marker(r.ReplayMarker)
				return err
			},
		},
	}
}
