package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/printer"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// site is a place that can be broken in one way.
type site struct {
	file string // relative to the module's root, with slashes
	line int
	kind string
	was  string // the source that changes, one line of it
	nth  int    // its number among the sites of its file, in the order of the walk
	in   string // the function
	text string // the line where it begins
	like int    // how many before it are in the same function and have the same line, too
}

// name names the mutant by texts alone, in the state and in lists: it stays when the file
// changes elsewhere.
func (s site) name() string {
	name := fmt.Sprintf("%s @ %s: %s", key(s), s.in, s.text)
	if s.like > 0 {
		name += fmt.Sprintf(" #%d", s.like)
	}
	return name
}

func (s site) String() string { return fmt.Sprintf("%s:%d: %s: %s", s.file, s.line, s.kind, s.was) }

// change is one site of a parsed file, and what breaks it.
type change struct {
	pos   token.Pos
	in    string // the function
	kind  string
	was   ast.Node
	apply func()
	lost  ast.Expr // of "error forgotten": the result that is forgotten
}

// sitesOf lists what can be broken in the Go files of a directory, its tests left out, and
// what a release for this system is not built of.
func sitesOf(root, dir string) ([]site, error) {
	files, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
	if err != nil {
		return nil, fmt.Errorf("look for the sources of %s: %w", dir, err)
	}
	var sites []site
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		if built, err := build.Default.MatchFile(filepath.Split(file)); err != nil || !built {
			continue
		}
		name, err := filepath.Rel(root, file)
		if err != nil {
			return nil, fmt.Errorf("name %s: %w", file, err)
		}
		of, err := sitesIn(file, filepath.ToSlash(name))
		if err != nil {
			return nil, err
		}
		sites = append(sites, of...)
	}
	return sites, nil
}

// sitesIn lists what can be broken in one file.
func sitesIn(path, file string) (sites []site, err error) {
	fset, _, changes, err := parse(path)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path) //nolint:gosec // of this repository
	if err != nil {
		return nil, fmt.Errorf("read a source: %w", err)
	}
	lines := strings.Split(string(text), "\n")
	like := map[string]int{}
	for i, c := range changes {
		line := fset.Position(c.pos).Line
		s := site{
			file: file, line: line, kind: c.kind, was: oneLine(fset, c.was), nth: i,
			in: c.in, text: withoutComment(lines[line-1]),
		}
		name := s.name()
		s.like = like[name]
		like[name]++
		sites = append(sites, s)
	}
	return sites, nil
}

func withoutComment(line string) string {
	line, _, _ = strings.Cut(line, " //")
	return strings.Join(strings.Fields(line), " ")
}

// broken is the source of the site's file with that one site changed.
func broken(root string, s site) ([]byte, error) {
	fset, file, changes, err := parse(filepath.Join(root, filepath.FromSlash(s.file)))
	if err != nil {
		return nil, err
	}
	if s.nth >= len(changes) {
		return nil, errors.New("the file has changed: " + s.file)
	}
	changes[s.nth].apply()
	file.Comments = nil // which the printer would put into other places
	var out bytes.Buffer
	if err := printer.Fprint(&out, fset, file); err != nil {
		return nil, fmt.Errorf("print %s: %w", s.file, err)
	}
	return out.Bytes(), nil
}

func parse(path string) (*token.FileSet, *ast.File, []change, error) {
	text, err := os.ReadFile(path) //nolint:gosec // of this repository
	if err != nil {
		return nil, nil, nil, fmt.Errorf("read a source: %w", err)
	}
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("parse a source: %w", err)
	}
	return fset, file, changesIn(file), nil
}

// changesIn are the ways to break a file.
func changesIn(file *ast.File) (changes []change) {
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Body != nil && f.Name.Name != "String" {
			of := changesOf(f.Body)
			for i := range of {
				of[i].in = f.Name.Name
			}
			changes = append(changes, of...)
		}
	}
	return changes
}

// changesOf are the ways to break a function's body.
func changesOf(body *ast.BlockStmt) (changes []change) {
	add := func(n ast.Node, kind string, apply func()) {
		changes = append(changes, change{pos: n.Pos(), kind: kind, was: n, apply: apply})
	}
	ast.Inspect(body, func(n ast.Node) bool {
		if isFailpoint(n) {
			return false
		}
		switch n := n.(type) {
		case *ast.IfStmt:
			add(n.Cond, "negated", func() { n.Cond = &ast.UnaryExpr{Op: token.NOT, X: &ast.ParenExpr{X: n.Cond}} })
		case *ast.BinaryExpr:
			if other, ok := shifted()[n.Op]; ok {
				add(n, n.Op.String()+" became "+other.String(), func() { n.Op = other })
			}
		case *ast.Ident:
			if n.Name == "true" || n.Name == "false" {
				add(n, "the other truth", func() { n.Name = map[string]string{"true": "false", "false": "true"}[n.Name] })
			}
		case *ast.BasicLit:
			if v, err := strconv.Atoi(n.Value); n.Kind == token.INT && err == nil {
				add(n, "one more", func() { n.Value = strconv.Itoa(v + 1) })
			}
		case *ast.ReturnStmt:
			changes = append(changes, returnsNoError(n)...)
		case *ast.BlockStmt:
			leftOut(n.List, add)
		case *ast.CaseClause:
			leftOut(n.Body, add)
		case *ast.CommClause:
			leftOut(n.Body, add)
		}
		return true
	})
	return changes
}

// shifted says what an operator becomes: a comparison moves by one, so that a test of
// the bound itself is needed to find it.
func shifted() map[token.Token]token.Token {
	return map[token.Token]token.Token{
		token.LSS: token.LEQ, token.LEQ: token.LSS, token.GTR: token.GEQ, token.GEQ: token.GTR,
		token.EQL: token.NEQ, token.NEQ: token.EQL, token.LAND: token.LOR, token.LOR: token.LAND,
		token.ADD: token.SUB, token.SUB: token.ADD, token.MUL: token.QUO, token.AND: token.OR, token.OR: token.AND,
	}
}

// returnsNoError forgets an error that is returned by its name.
func returnsNoError(n *ast.ReturnStmt) (changes []change) {
	for i, r := range n.Results {
		if id, ok := r.(*ast.Ident); ok && (id.Name == "err" || strings.HasPrefix(id.Name, "Err")) {
			forget := func() { n.Results[i] = ast.NewIdent("nil") }
			changes = append(changes, change{pos: n.Pos(), kind: "error forgotten", was: n, apply: forget, lost: r})
		}
	}
	return changes
}

// isFailpoint says of a statement that it is a point of internal/failpoint, with what
// follows if that fails: in a release nothing is left of it.
func isFailpoint(n ast.Node) bool {
	var calls []ast.Expr
	switch n := n.(type) {
	case *ast.ExprStmt:
		calls = []ast.Expr{n.X}
	case *ast.IfStmt:
		if init, ok := n.Init.(*ast.AssignStmt); ok {
			calls = init.Rhs
		}
	}
	return slices.ContainsFunc(calls, func(e ast.Expr) bool {
		call, ok := e.(*ast.CallExpr)
		if !ok {
			return false
		}
		f, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return false
		}
		of, ok := f.X.(*ast.Ident)
		return ok && of.Name == "failpoint"
	})
}

// leftOut leaves out each statement that does something by itself.
func leftOut(list []ast.Stmt, add func(ast.Node, string, func())) {
	for i, s := range list {
		if isFailpoint(s) {
			continue
		}
		switch s := s.(type) {
		case *ast.ExprStmt, *ast.SendStmt, *ast.IncDecStmt, *ast.DeferStmt, *ast.GoStmt:
		case *ast.AssignStmt:
			if s.Tok == token.DEFINE {
				continue
			}
		case *ast.BranchStmt:
			if s.Tok == token.GOTO || s.Tok == token.FALLTHROUGH {
				continue
			}
		default:
			continue
		}
		add(s, "left out", func() { list[i] = &ast.EmptyStmt{} })
	}
}

func oneLine(fset *token.FileSet, n ast.Node) string {
	var out bytes.Buffer
	if printer.Fprint(&out, fset, n) != nil {
		return "?"
	}
	text := strings.Join(strings.Fields(out.String()), " ")
	if r := []rune(text); len(r) > 90 {
		text = string(r[:90]) + "..."
	}
	return text
}
