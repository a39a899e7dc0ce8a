package cli

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/idemproxy/idemproxy/admin"
)

// What is printed of a record can be pasted into a shell behind a command, and means that record.
func TestShownKeysCanBePasted(t *testing.T) {
	t.Parallel()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash")
	}
	scopes := []string{
		"", "host=a.example:8080", "header:x-account=Acct 7 = \"x\" '\\", "claim:sub@https://a=me",
		"header:a=x\x1fheader:a-b=y", "header:x=1\x1fhost=a", "\x1ederived\x1f", "\x1ederived\x1fheader:x-a=q",
		"\x1eredirect\x1f0123456789abcdef0123456789abcdef", "\x1epayload\x1fheader:a=x\x1fheader:a-b=y",
		"acct_7", "b\x1fa", "header:X-A=1", "acct\x1fheader:X-A=1", "\x1f", "\x1fa", "a\x1f", "a\tb", "ünï", "ünï\"", "\"ü\"", "\xff",
		"'", "ü'\\", "$HOME `id` $(id)", "-", "--all", "a\nb",
	}
	keys := []string{"order-42", "it's", "-k", "--all", "a b", `"`, `\`, "key:0123456789ab", "$HOME", "~", "#"}
	for _, key := range keys {
		for _, scope := range scopes {
			line := shownKey(key, admin.ScopeText(scope))
			var k keyCommand
			c := &cobra.Command{Use: "x", Args: cobra.ExactArgs(1), RunE: func(_ *cobra.Command, args []string) error {
				if got := admin.ScopeOf(k.scope()); args[0] != key || got != scope {
					t.Errorf("%s: pasted, it is %q in %q, want %q in %q", line, args[0], got, key, scope)
				}
				return nil
			}}
			k.flags(c)
			c.PreRunE = nil
			out, err := exec.CommandContext(t.Context(), bash, "-c", `printf '%s\0' `+line).Output()
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			c.SetArgs(strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"))
			if err := c.Execute(); err != nil {
				t.Errorf("%s: %v", line, err)
			}
		}
	}
}
