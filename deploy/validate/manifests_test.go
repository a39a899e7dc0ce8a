package validate

import (
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/idemproxy/idemproxy/config"
)

// decode reads objects as strictly as an API server that is asked to: a field that the
// type does not have, or has twice, is an error.
func decode(t *testing.T, name, text string) (all []runtime.Object) {
	t.Helper()
	strict := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme.Scheme, scheme.Scheme,
		json.SerializerOptions{Yaml: true, Strict: true})
	for doc := range strings.SplitSeq(text, "\n---\n") {
		if strings.TrimSpace(doc) == "" {
			continue
		}
		object, _, err := strict.Decode([]byte(doc), nil, nil)
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, doc)
			continue
		}
		all = append(all, object)
	}
	return all
}

// hold checks what no type says, and what stopped pods or showed secrets before.
func hold(t *testing.T, name string, all []runtime.Object) (kinds []string) {
	t.Helper()
	for _, object := range all {
		switch o := object.(type) {
		case *appsv1.Deployment:
			holdPod(t, name, &o.Spec.Template.Spec)
			kinds = append(kinds, "Deployment")
		case *corev1.ConfigMap:
			loads(t, name, o.Data["idemproxy.yaml"])
			kinds = append(kinds, "ConfigMap")
		case *corev1.Service:
			kinds = append(kinds, "Service")
		case *policyv1.PodDisruptionBudget:
			kinds = append(kinds, "PodDisruptionBudget")
		case *corev1.Secret:
			if _, err := url.Parse(o.StringData["store"]); err != nil || o.StringData["store"] == "" {
				t.Errorf("%s: the Secret %s has no store: %v", name, o.Name, err)
			}
			kinds = append(kinds, "Secret")
		case *batchv1.Job:
			holdJob(t, name, &o.Spec.Template.Spec)
			kinds = append(kinds, "Job")
		default:
			t.Errorf("%s: nothing is known about %T", name, o)
		}
	}
	return kinds
}

// holdJob checks a pod that runs a command of idemproxy's, and ends.
func holdJob(t *testing.T, name string, pod *corev1.PodSpec) {
	t.Helper()
	if pod.EnableServiceLinks == nil || *pod.EnableServiceLinks {
		t.Errorf("%s: a Service sets variables in the pod", name)
	}
	for _, c := range pod.Containers {
		secret := slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool {
			return e.Name == "IDEMPROXY_STORE" && e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil
		})
		if !secret {
			t.Errorf("%s: the store of %s does not come from a Secret", name, c.Name)
		}
	}
}

func holdPod(t *testing.T, name string, pod *corev1.PodSpec) {
	t.Helper()
	if pod.EnableServiceLinks == nil || *pod.EnableServiceLinks {
		t.Errorf("%s: a Service sets variables in the pod", name)
	}
	i := slices.IndexFunc(pod.Containers, func(c corev1.Container) bool { return c.Name == "idemproxy" })
	if i < 0 {
		t.Fatalf("%s: no container idemproxy", name)
	}
	c := pod.Containers[i]
	for _, arg := range append(c.Args, c.Command...) {
		if strings.Contains(arg, "$(") || strings.Contains(arg, "store") {
			t.Errorf("%s: %s may be a secret, and every process of the machine sees it", name, arg)
		}
	}
	holdVariables(t, name, &c)
}

func holdVariables(t *testing.T, name string, c *corev1.Container) {
	t.Helper()
	store, limit := false, int64(0)
	for _, e := range c.Env {
		switch e.Name {
		case "IDEMPROXY_STORE":
			store = e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil
		case "GOMEMLIMIT":
			mib, err := strconv.ParseInt(strings.TrimSuffix(e.Value, "MiB"), 10, 64)
			if err != nil {
				t.Errorf("%s: GOMEMLIMIT: %v", name, err)
			}
			limit = mib << 20
		}
	}
	if !store {
		t.Errorf("%s: the store does not come from a Secret", name)
	}
	if most := c.Resources.Limits.Memory().Value(); limit == 0 || limit > most*4/5 {
		t.Errorf("%s: Go may use %d bytes of a container of %d", name, limit, most)
	}
}

// loads checks settings as the proxy would, that names in them can be resolved, and that
// no range is trusted in which every pod may be.
func loads(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "idemproxy.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := config.Default()
	if _, err := config.Load(&c, c.Flags(), file, nil); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	for _, host := range regexp.MustCompile(`[a-z0-9.-]+\.svc\.cluster\.local`).FindAllString(text, -1) {
		if strings.Count(host, ".") != 4 {
			t.Errorf("%s: %s is not service.namespace.svc.cluster.local", name, host)
		}
	}
	if len(c.TrustedProxies) > 0 {
		t.Errorf("%s: it trusts %v, which are somebody's addresses", name, c.TrustedProxies)
	}
}

func TestManifests(t *testing.T) {
	t.Parallel()
	for file, want := range map[string][]string{
		"edge.yaml":     {"ConfigMap", "Deployment", "PodDisruptionBudget", "Service"},
		"postgres.yaml": {"Secret", "Secret", "Job"},
		"sidecar.yaml":  {"Deployment", "Service"},
	} {
		text, err := os.ReadFile("../kubernetes/" + file)
		if err != nil {
			t.Fatal(err)
		}
		if kinds := hold(t, file, decode(t, file, string(text))); !slices.Equal(kinds, want) {
			t.Errorf("%s has %v, not %v", file, kinds, want)
		}
	}
}
