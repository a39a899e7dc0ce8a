//go:build !failpoints

package failpoint_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"strings"
	"testing"

	"github.com/idemproxy/idemproxy/internal/failpoint"
)

// In a build without the tag, what stands behind a point is empty, and the compiler
// inlines it: of a call nothing is left.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "off.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			t.Errorf("off.go declares more than functions: %T", d)
			continue
		}
		if len(f.Body.List) > 0 && !returnsNil(f.Body) {
			t.Errorf("%s does something", f.Name)
		}
	}
	// Of a package that is in the build cache, the go command repeats what was said.
	out, err := exec.CommandContext(t.Context(), "go", "build", "-gcflags=-m", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, name := range []string{"Reach", "Fail"} {
		if !strings.Contains(string(out), "can inline "+name) {
			t.Errorf("%s is not inlined: %s", name, out)
		}
	}
	if err := failpoint.Fail("anything"); err != nil {
		t.Error(err)
	}
	failpoint.Reach("anything")
}

// returnsNil says of a body that it is return nil.
func returnsNil(body *ast.BlockStmt) bool {
	r, ok := body.List[0].(*ast.ReturnStmt)
	if !ok || len(body.List) != 1 || len(r.Results) != 1 {
		return false
	}
	name, ok := r.Results[0].(*ast.Ident)
	return ok && name.Name == "nil"
}
