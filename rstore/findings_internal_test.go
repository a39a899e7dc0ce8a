package rstore

import (
	"fmt"
	"strings"
	"testing"
)

// Whoever has as many replicas as are waited for is told nothing of them; too few refuse
// requests, and too many may lead to one that lacks something.
func TestReplicasThatAreTold(t *testing.T) {
	t.Parallel()
	settings := map[string]string{"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
	for _, c := range []struct {
		replicas, wait int
		want           string
	}{
		{0, 0, ""},
		{1, 1, ""},
		{2, 2, ""},
		{1, AllReplicas, ""},
		{2, AllReplicas, ""},
		{0, 1, "fewer replicas"},
		{1, 2, "fewer replicas"},
		{0, AllReplicas, "fewer replicas"},
		{1, 0, "more replicas"},
		{2, 1, "more replicas"},
	} {
		got := ""
		for _, f := range findings(settings, fmt.Sprintf("role:master\r\nconnected_slaves:%d\r\n", c.replicas), c.wait) {
			got += fmt.Sprint(f)
		}
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%d replicas, waited for %d: told %q, want %q", c.replicas, c.wait, got, c.want)
		}
		if told := findings(settings, "role:slave\r\nconnected_slaves:7\r\n", c.wait); strings.Contains(fmt.Sprint(told), "connected_slaves") {
			t.Errorf("of a replica, %v is told", told)
		}
	}
}
