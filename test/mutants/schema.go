package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// schema is a package whose sources hold all their mutants at once: the variable
// MUTANT of the environment switches one of them on. So one build serves them all.
type schema struct {
	dir     string // relative to the module's root
	module  string // its path
	overlay string // the file for the go command
	sites   []site // their places are the numbers that MUTANT takes
	dropped []int  // those that do not compile beside the original
	sources string // a hash of the sources
}

// helpers is the file that is added to the package.
const helpers = `

import (
	"os"
	"strconv"
	"sync"
)

var mutantActive = func() int {
	if n, err := strconv.Atoi(os.Getenv("MUTANT")); err == nil {
		return n
	}
	return -1
}()

var mutantTrace = os.Getenv("MUTANT_TRACE")

var mutantSeen sync.Map

func mutantOn(n int) bool {
	if mutantTrace != "" {
		if _, seen := mutantSeen.LoadOrStore(n, true); !seen {
			if f, err := os.OpenFile(mutantTrace, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600); err == nil {
				_, _ = f.WriteString(strconv.Itoa(n) + "\n")
				_ = f.Close()
			}
		}
	}
	return n == mutantActive
}
`

// listed is what the go command says of a package.
type listed struct {
	ImportPath, Dir, Export, Name string
	Standard                      bool
	GoFiles                       []string
}

// list asks for a package and all that it and the helpers import.
func list(ctx context.Context, dir string) (pkg listed, exports map[string]string, err error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-export", "-deps", //nolint:gosec // ours
		"-json=ImportPath,Dir,Export,Name,Standard,GoFiles", "os", "strconv", "sync", "./"+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return pkg, nil, fmt.Errorf("list %s: %w", dir, err)
	}
	exports = map[string]string{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkg, exports, nil
		} else if err != nil {
			return pkg, nil, fmt.Errorf("read the list of %s: %w", dir, err)
		}
		exports[p.ImportPath] = p.Export
		if !p.Standard {
			pkg = p // what is asked for comes last
		}
	}
}

// source is a file of the package, and what is broken in it.
type source struct {
	name  string // relative to the module's root
	path  string
	text  []byte
	file  *ast.File
	sites []placed
}

// placed is a site with what it needs to be written down.
type placed struct {
	id int
	change
	whole    ast.Expr // of what is constant: the whole constant expression around it
	from, to int      // where it stands in what was written last
}

// newSchema writes the package with its switches into tmp.
func newSchema(ctx context.Context, dir, tmp string) (*schema, error) {
	pkg, exports, err := list(ctx, dir)
	if err != nil {
		return nil, err
	}
	s := &schema{dir: dir, module: strings.TrimSuffix(pkg.ImportPath, "/"+dir)}
	fset := token.NewFileSet()
	var sources []*source
	var sum bytes.Buffer
	for _, name := range pkg.GoFiles {
		f, err := s.read(fset, pkg.Dir, name)
		if err != nil {
			return nil, err
		}
		_, _ = sum.Write(f.text)
		sources = append(sources, f)
	}
	s.sources = hash(sum.Bytes())
	lookup := func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) }
	config := types.Config{Importer: importer.ForCompiler(fset, "gc", lookup), Error: func(error) {}}
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}}
	var files []*ast.File
	for _, f := range sources {
		files = append(files, f.file)
	}
	if _, err := config.Check(pkg.ImportPath, fset, files, info); err != nil {
		return nil, fmt.Errorf("check the types of %s: %w", dir, err)
	}
	for _, f := range sources {
		f.constants(info)
	}
	w := writer{fset: fset, info: info, name: pkg.Name}
	replace, err := s.write(&w, config, pkg, sources, tmp)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return nil, fmt.Errorf("write an overlay: %w", err)
	}
	s.overlay = filepath.Join(tmp, "overlay.json")
	return s, os.WriteFile(s.overlay, text, 0o600) //nolint:wrapcheck // it names the file
}

func (s *schema) read(fset *token.FileSet, dir, name string) (*source, error) {
	path := filepath.Join(dir, name)
	text, err := os.ReadFile(path) //nolint:gosec // of this repository
	if err != nil {
		return nil, fmt.Errorf("read a source: %w", err)
	}
	file, err := parser.ParseFile(fset, path, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("parse a source: %w", err)
	}
	f := &source{name: s.dir + "/" + name, path: path, text: text, file: file}
	for i, c := range changesIn(file) {
		f.sites = append(f.sites, placed{id: len(s.sites), change: c})
		s.sites = append(s.sites, site{
			file: f.name, line: fset.Position(c.pos).Line, kind: c.kind, was: oneLine(fset, c.was), nth: i,
		})
	}
	return f, nil
}

// write writes all files, and leaves out what does not compile until the rest does.
func (s *schema) write(w *writer, config types.Config, pkg listed, sources []*source, tmp string) (map[string]string, error) {
	var failure error
	for range 50 {
		replace := map[string]string{}
		fset := token.NewFileSet()
		var files []*ast.File
		byPath := map[string]*source{}
		texts := map[string][]byte{filepath.Join(pkg.Dir, "mutants_switch.go"): []byte("package " + pkg.Name + helpers)}
		for _, f := range sources {
			texts[f.path], byPath[f.path] = w.switched(f), f
		}
		for path, text := range texts {
			file, err := parser.ParseFile(fset, path, text, parser.SkipObjectResolution)
			if err != nil {
				return nil, fmt.Errorf("parse what was written for %s: %w", path, err)
			}
			files = append(files, file)
			replace[path] = filepath.Join(tmp, filepath.Base(path))
			if err := os.WriteFile(replace[path], text, 0o600); err != nil {
				return nil, fmt.Errorf("write a mutant: %w", err)
			}
		}
		wrong := map[*source][]int{}
		config.Error = func(err error) {
			var e types.Error
			if errors.As(err, &e) {
				at := fset.Position(e.Pos)
				if f := byPath[at.Filename]; f != nil {
					wrong[f] = append(wrong[f], at.Offset)
				}
			}
		}
		_, failure = config.Check(pkg.ImportPath, fset, files, nil)
		if failure == nil {
			slices.Sort(s.dropped)
			return replace, nil
		}
		before := len(s.dropped)
		for f, offsets := range wrong {
			s.dropped = append(s.dropped, f.drop(offsets)...)
		}
		if len(s.dropped) == before {
			break
		}
	}
	return nil, fmt.Errorf("%s does not compile with its switches: %w", s.dir, failure)
}

// constants notes the constant expression that each site is a part of: what stands
// in it cannot be switched alone.
func (f *source) constants(info *types.Info) {
	wholes := map[ast.Node]ast.Expr{}
	var above []ast.Node
	ast.Inspect(f.file, func(n ast.Node) bool {
		if n == nil {
			above = above[:len(above)-1]
			return true
		}
		above = append(above, n)
		if e, ok := n.(ast.Expr); ok && info.Types[e].Value != nil {
			wholes[n] = e
			if over := wholes[above[len(above)-2]]; over != nil {
				wholes[n] = over
			}
		}
		return true
	})
	for i, p := range f.sites {
		switch n := p.was.(type) {
		case *ast.BasicLit:
			f.sites[i].whole = wholes[n]
			if wholes[n] == nil {
				f.sites[i].whole = n
			}
		case *ast.BinaryExpr:
			if p.kind != "negated" {
				f.sites[i].whole = wholes[n]
			}
		}
	}
}

// drop leaves out, for each offset, the innermost site around it.
func (f *source) drop(offsets []int) (ids []int) {
	wrong := map[int]bool{}
	for _, offset := range offsets {
		if i := f.around(offset); i >= 0 {
			wrong[f.sites[i].id] = true
			for _, p := range f.sites { // those that were written around the same expression
				if p.whole != nil && p.whole == f.sites[i].whole {
					wrong[p.id] = true
				}
			}
		}
	}
	f.sites = slices.DeleteFunc(f.sites, func(p placed) bool { return wrong[p.id] })
	for id := range wrong {
		ids = append(ids, id)
	}
	return ids
}

// around is the innermost site around an offset. If there is none, the last before it:
// of "missing return", it left out what ended the function.
func (f *source) around(offset int) int {
	best := -1
	for i, p := range f.sites {
		if p.from <= offset && offset <= p.to && (best < 0 || p.to-p.from <= f.sites[best].to-f.sites[best].from) {
			best = i
		}
	}
	if best >= 0 {
		return best
	}
	for i, p := range f.sites {
		if p.to <= offset && (best < 0 || p.to >= f.sites[best].to) {
			best = i
		}
	}
	return best
}

// writer puts switches into sources.
type writer struct {
	fset *token.FileSet
	info *types.Info
	name string
}

// insertion is text for a place: ends of sites come before beginnings, inner ends
// before outer ones, outer beginnings before inner ones.
type insertion struct {
	at    int
	order int
	text  string
	site  int // its index, or its complement for the end
}

func (w *writer) switched(f *source) []byte {
	var all []insertion
	for i := range f.sites {
		p := &f.sites[i]
		before, after := w.around(f, p)
		n := p.was
		if p.whole != nil {
			n = p.whole
		}
		all = append(all,
			insertion{w.offset(n.Pos()), 1<<20 + p.id, before, i},
			insertion{w.offset(n.End()), -p.id, after, ^i})
	}
	slices.SortFunc(all, func(a, b insertion) int {
		if a.at != b.at {
			return a.at - b.at
		}
		return a.order - b.order
	})
	var out bytes.Buffer
	done := 0
	for _, in := range all {
		_, _ = out.Write(f.text[done:in.at])
		done = in.at
		if in.site >= 0 {
			f.sites[in.site].from = out.Len()
		}
		_, _ = out.WriteString(in.text)
		if in.site < 0 {
			f.sites[^in.site].to = out.Len()
		}
	}
	_, _ = out.Write(f.text[done:])
	return out.Bytes()
}

func (w *writer) offset(p token.Pos) int { return w.fset.Position(p).Offset }

// around is what is written before and after a site's source.
func (w *writer) around(f *source, p *placed) (before, after string) {
	on := fmt.Sprintf("mutantOn(%d)", p.id)
	text := func(from, to token.Pos) string { return string(f.text[w.offset(from):w.offset(to)]) }
	if p.kind == "negated" {
		return on + " != (", ")"
	}
	switch n := p.was.(type) {
	case *ast.ReturnStmt:
		return "if " + on + " { " + text(n.Pos(), p.lost.Pos()) + "nil" + text(p.lost.End(), n.End()) + " }; ", ""
	case ast.Stmt:
		return "if !" + on + " { ", " }"
	case *ast.Ident:
		if n.Name == "true" {
			return "(!" + on + " && ", ")"
		}
		return "(" + on + " || ", ")"
	case *ast.BasicLit:
		more, _ := strconv.Atoi(n.Value)
		return w.instead(p.whole, on, text(p.whole.Pos(), n.Pos())+strconv.Itoa(more+1)+text(n.End(), p.whole.End()))
	case *ast.BinaryExpr:
		mutant := text(n.Pos(), n.OpPos) + shifted()[n.Op].String() + text(n.OpPos+token.Pos(len(n.Op.String())), n.End())
		if !slices.Contains([]token.Token{token.ADD, token.SUB, token.MUL, token.AND, token.OR}, n.Op) {
			return fmt.Sprintf("(%s && (%s) || !%s && (", on, mutant, on), "))"
		}
		if p.whole == nil {
			return w.instead(n, on, mutant)
		}
		return w.instead(p.whole, on, text(p.whole.Pos(), n.Pos())+mutant+text(n.End(), p.whole.End()))
	}
	return "", ""
}

// instead gives another value in place of an expression.
func (w *writer) instead(e ast.Expr, on, mutant string) (before, after string) {
	return fmt.Sprintf("func() %s { if %s { return %s }; return ", w.typeOf(e), on, mutant), " }()"
}

// typeOf names the type of an expression as the package's own sources do.
func (w *writer) typeOf(e ast.Expr) string {
	t := w.info.Types[e].Type
	if t == nil {
		return "int"
	}
	return strings.TrimPrefix(types.TypeString(types.Default(t), func(p *types.Package) string {
		if p.Name() == w.name {
			return ""
		}
		return p.Name()
	}), "untyped ")
}
