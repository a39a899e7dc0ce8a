package test_test

import (
	"strings"
	"syscall"
	"testing"

	"github.com/idemproxy/idemproxy/proxy/backendtest"
)

// A file that the environment names is reloaded as one that a flag names.
func TestReloadOfAFileOfTheEnvironment(t *testing.T) {
	t.Parallel()
	b := backendtest.Start(t, backendtest.OK)
	file := t.TempDir() + "/idemproxy.yaml"
	writeText(t, file, "retention: 1h\n")
	p := launch{binary: binary, env: []string{"IDEMPROXY_CONFIG=" + file}}.start(t,
		"--listen", "127.0.0.1:0", "--store", "embedded:"+t.TempDir(), "--backend", b.URL())
	writeText(t, file, "retention: 1h\nrequire_key: true\n")
	p.signal(syscall.SIGHUP)
	eventually(t, "it is reloaded, or not", func() bool { return strings.Contains(p.text(), `"event":"reload`) })
	if strings.Contains(p.text(), "reload_failed") {
		t.Errorf("the log:\n%s", p.text())
	}
}
