package proxy

import (
	"slices"
	"strings"

	"github.com/idemproxy/idemproxy/idem"
)

// Parts are the words for what a mismatch is about, for documents and metrics.
func Parts() []string { return []string{"caller", "method", "target", "headers", "body", "request"} }

// DiffersIn has those of a mismatch: caller; or those of method, target, headers and body
// that are known to differ; or request, if none of them is known to. What is not there is not
// shown to be the same: see idem.Hints. It is shared, and nil if there is no mismatch.
func DiffersIn(p idem.Part) []string { return differing[p].words }

// Differs is the same as one word, with commas, for logs.
func Differs(p idem.Part) string { return differing[p].text }

//nolint:gochecknoglobals // a constant table, so that saying it allocates nothing
var differing = differingTable()

type differingIn struct {
	words []string
	text  string
}

func differingTable() (all [1 << 8]differingIn) {
	words := Parts()
	payload := []idem.Part{idem.PartMethod, idem.PartTarget, idem.PartHeaders, idem.PartBody}
	for i := range all {
		p, in := idem.Part(i), &all[i]
		switch {
		case p == idem.PartNone:
			continue
		case p.Has(idem.PartIdentity):
			in.words = words[:1:1]
		default:
			for j, part := range payload {
				if p.Has(part) {
					in.words = append(in.words, words[1+j])
				}
			}
			if len(in.words) == 0 {
				in.words = words[len(words)-1:]
			}
		}
		in.words = slices.Clip(in.words)
		in.text = strings.Join(in.words, ",")
	}
	return all
}

// differsSentence begins the detail of a problem; empty if there is nothing to add.
func differsSentence(p idem.Part) string {
	words := DiffersIn(p)
	switch {
	case !p.Has(idem.PartPayload) || words[0] == "request":
		return ""
	case len(words) == 1 && words[0] != "headers":
		return "The " + words[0] + " differs"
	case len(words) == 1:
		return "The headers that count differ"
	}
	last := len(words) - 1
	return "The " + strings.Join(words[:last], ", ") + " and " + words[last] + " differ"
}
