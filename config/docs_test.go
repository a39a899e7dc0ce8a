package config_test

import (
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/config"
	"github.com/idemproxy/idemproxy/internal/golden"
)

// TestSettingsDocument keeps docs/reference/settings.md in step with the flags.
func TestSettingsDocument(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("# Settings\n\nPrinted from `config.Flags` by `make docs`; do not edit. Each setting is a flag (`--lock-ttl 30s`), an\n" +
		"environment variable (`IDEMPROXY_LOCK_TTL=30s`) and a line of the YAML file (`lock_ttl: 30s`) that `--config FILE`\n" +
		"or `IDEMPROXY_CONFIG` names. A flag wins over the environment, which wins over the file. `idemproxy config` checks\n" +
		"them and prints them as such a file.\n\n" +
		"A change of those that are *live* counts as soon as the file is changed, or at SIGHUP; of the others, after a restart.\n" +
		"A change of those that are to be made with *care* has records named, or requests compared, in another way: read\n" +
		"[the contract](../contract.md#changes-of-settings) first.\n\n")
	if err := config.Table(&b); err != nil {
		t.Fatal(err)
	}
	golden.Check(t, "../docs/reference/settings.md", b.String())
}
