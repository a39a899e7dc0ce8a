package receipts_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/idem"
)

// The examples roll back what has the proxy free the key, as the Go package does, and the documents
// name the same statuses.
func TestStatusesThatLeaveNoReceipt(t *testing.T) {
	t.Parallel()
	var proxy *idem.Statuses // the default ones
	var freed []string
	for status := 200; status < 500; status++ {
		if proxy.Of(status) != idem.Keep {
			freed = append(freed, fmt.Sprint(status))
		}
	}
	for _, file := range []string{"receipts_sqlite.py", "receipts_psycopg.py", "receipts_pg.js", "README.md", "../../receipts.md"} {
		text, err := os.ReadFile("../../docs/examples/receipts/" + file)
		if err != nil {
			t.Fatal(err)
		}
		all := regexp.MustCompile("`?401`?, [0-9, `]+").FindString(string(text)) // the list, and no single 401
		if got := strings.Join(regexp.MustCompile(`\d+`).FindAllString(all, -1), ", "); got != strings.Join(freed, ", ") {
			t.Errorf("%s: %q, want %v", file, got, freed)
		}
	}
}
