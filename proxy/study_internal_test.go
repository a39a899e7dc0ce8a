package proxy

import (
	"maps"
	"testing"

	"github.com/idemproxy/idemproxy/idem"
)

// What would have kept a mismatch from being one is found also where the hints have missed
// what differs, which is so for one difference in 256.
func TestSparedWhateverTheHintsSay(t *testing.T) {
	t.Parallel()
	first := traits{form: "json", spares: [numSpares]uint32{1, 2, 3}}
	for _, one := range []struct {
		name    string
		spares  [numSpares]uint32
		differs idem.Part
		want    string // empty: nothing
	}{
		{"other order of members", [numSpares]uint32{1, 2, 3}, idem.PartBody, "json"},
		{"other order of members, missed", [numSpares]uint32{1, 2, 3}, 0, "json"},
		{"other values", [numSpares]uint32{9, 2, 3}, idem.PartBody, ""},
		{"other values, missed", [numSpares]uint32{9, 2, 3}, 0, ""},
		{"other query", [numSpares]uint32{1, 2, 9}, idem.PartTarget, "path"},
		{"other query, missed", [numSpares]uint32{1, 2, 9}, 0, "path"},
		{"other host", [numSpares]uint32{1, 9, 3}, idem.PartTarget, "any-host"},
		{"other host, missed", [numSpares]uint32{1, 9, 3}, 0, "any-host"},
		{"other path", [numSpares]uint32{1, 9, 9}, idem.PartTarget, ""},
		{"other path, missed", [numSpares]uint32{1, 9, 9}, 0, ""},
		{"other path and order", [numSpares]uint32{1, 9, 9}, idem.PartTarget | idem.PartBody, ""},
		{"other method", [numSpares]uint32{1, 2, 3}, idem.PartMethod, ""},
	} {
		o := Observations{Differs: map[string]uint64{}, Spared: map[string]uint64{}}
		now := traits{form: "json", spares: one.spares}
		o.mismatch(&now, &meeting{first: first, differs: idem.PartPayload | one.differs})
		want := map[string]uint64{}
		if one.want != "" {
			want[one.want] = 1
		}
		if !maps.Equal(o.Spared, want) {
			t.Errorf("%s: %v, want %v", one.name, o.Spared, want)
		}
	}
}
