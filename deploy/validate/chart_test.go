package validate

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
)

// render is what `helm template shop deploy/helm/idemproxy` makes of values, by file.
func render(t *testing.T, values map[string]any) (map[string]string, error) {
	t.Helper()
	chart, err := loader.Load("../helm/idemproxy")
	if err != nil {
		t.Fatal(err)
	}
	all, err := util.ToRenderValues(chart, values,
		common.ReleaseOptions{Name: "shop", Namespace: "shop", Revision: 1, IsInstall: true}, common.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	return engine.Render(chart, all)
}

// objects is all of it that is YAML, as one stream.
func objects(rendered map[string]string) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(rendered)) {
		if strings.HasSuffix(name, ".yaml") {
			all = append(all, rendered[name])
		}
	}
	return strings.Join(all, "\n---\n")
}

func TestChart(t *testing.T) {
	t.Parallel()
	whole := []string{"ConfigMap", "Deployment", "PodDisruptionBudget", "Service"}
	for name, c := range map[string]struct {
		values map[string]any
		want   []string
		has    string
	}{
		"as it is": {nil, whole, "image: \"registry.example.com/idemproxy:1\""},
		"one of it": {
			map[string]any{"replicas": 1}, []string{"ConfigMap", "Deployment", "Service"}, "replicas: 1",
		},
		"everything set": {map[string]any{
			"image":            map[string]any{"repository": "r.example/i", "tag": "2", "pullPolicy": "Always"},
			"imagePullSecrets": []any{map[string]any{"name": "pull"}},
			"existingSecret":   "mine",
			"settings": map[string]any{
				"backend": []any{"http://web.shop.svc.cluster.local:80"},
				"routes":  []any{map[string]any{"name": "pay", "path": "/pay", "require_key": true}},
			},
			"service":             map[string]any{"type": "LoadBalancer", "port": 8080, "annotations": map[string]any{"a": "b"}},
			"podAnnotations":      map[string]any{"a": "b"},
			"podLabels":           map[string]any{"team": "pay"},
			"nodeSelector":        map[string]any{"disk": "ssd"},
			"tolerations":         []any{map[string]any{"key": "k", "operator": "Exists"}},
			"affinity":            map[string]any{"podAntiAffinity": map[string]any{}},
			"goMemoryLimit":       "512MiB",
			"podDisruptionBudget": map[string]any{"minAvailable": "50%"},
		}, whole, "require_key: true"},
	} {
		rendered, err := render(t, c.values)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		text := objects(rendered)
		kinds := hold(t, name, decode(t, name, text))
		slices.Sort(kinds)
		if !slices.Equal(kinds, c.want) || !strings.Contains(text, c.has) {
			t.Errorf("%s: %v, wanted %v and %s in\n%s", name, kinds, c.want, c.has, text)
		}
	}
}

// The types of the Prometheus operator are not Kubernetes' own: that the object is
// there, and what it says, is looked at as text.
func TestChartPodMonitor(t *testing.T) {
	t.Parallel()
	rendered, err := render(t, map[string]any{"podMonitor": map[string]any{"enabled": true}})
	if err != nil {
		t.Fatal(err)
	}
	text := rendered["idemproxy/templates/podmonitor.yaml"]
	if !strings.Contains(text, "kind: PodMonitor") || !strings.Contains(text, "{port: admin, path: /metrics, interval: \"15s\"}") {
		t.Errorf("%q", text)
	}
}

// What would not work is refused when it is rendered, not by pods that do not start.
func TestChartRefuses(t *testing.T) {
	t.Parallel()
	for name, values := range map[string]map[string]any{
		"a misspelt value":            {"replica": 2},
		"none":                        {"replicas": 0},
		"the store in settings":       {"settings": map[string]any{"backend": []any{"http://a:1"}, "store": "redis://:secret@r:6379"}},
		"no backend":                  {"settings": map[string]any{"backend": nil}},
		"no Secret":                   {"existingSecret": ""},
		"memory in Kubernetes' units": {"goMemoryLimit": "768Mi"},
	} {
		if _, err := render(t, values); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
