//go:build !race

package operation_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/operation"
)

// The variables of a GraphQL request are read once, however many directives have their key
// there: in a body of 1 MiB there is room for thousands of each. Reading a member allocates
// its name, so the allocations count how often that is done.
func TestVariablesAreReadOnce(t *testing.T) {
	const directives, members = 200, 1000
	s, err := operation.ParseSources([]string{"graphql:idempotent.key"})
	if err != nil {
		t.Fatal(err)
	}
	cost := func(members int) float64 {
		var variables strings.Builder
		for i := range members {
			fmt.Fprintf(&variables, `,"a rather long name of a member, of number %d":1`, i)
		}
		body := fmt.Sprintf(`{"query":"mutation($k: ID) { %s }","variables":{"k":"7"%s}}`,
			strings.Repeat("a @idempotent(key: $k) ", directives), &variables)
		return testing.AllocsPerRun(5, func() {
			got, err := s.Find(askedOf(t, "POST", "/", jsonType, body), true)
			if err != nil || got.Key.Value() != "7" {
				t.Fatalf("%+v, %v", got, err)
			}
		})
	}
	if more := cost(members) - cost(0); more > 10*members {
		t.Errorf("%d more members of the variables cost %v more allocations", members, more)
	}
}
