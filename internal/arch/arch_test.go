// Package arch holds the tests of the project's shape: which package may import which,
// that every package says what it is, and that the documents name what is there. It
// has no code of its own.
package arch

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/gosix/gosix/"

// rows is the table of ARCHITECTURE.md: a package imports only packages of a lower row,
// or of its own row further to the left. A name ending in /... stands for the packages
// below it.
var rows = [][]string{
	0: {"internal/logtest", "internal/timetest", "internal/porttest", "internal/leaktest", "internal/certtest", "internal/racetest", "pkg/jsonedit", "pkg/exchange", "pkg/exchange/exchangetest", "pkg/http1", "pkg/socket", "pkg/schema", "pkg/store", "pkg/balancer", "pkg/tlsname", "pkg/protodef", "pkg/config", "pkg/drain", "pkg/seal", "pkg/drivers/protocol", "pkg/drivers/sse", "pkg/drivers/eventstream"},
	1: {"pkg/variable", "pkg/expr", "pkg/upstream", "pkg/upstream/health", "pkg/drivers/convert", "pkg/drivers/ledger", "pkg/drivers/gcp", "pkg/resource", "pkg/store/memstore", "pkg/store/etcdstore", "pkg/store/embedetcd", "pkg/store/storetest", "pkg/cluster", "pkg/store/lastgood"},
	2: {"pkg/certificate", "pkg/plugin", "pkg/drivers", "pkg/drivers/reply", "pkg/prompt"},
	3: {"pkg/drivers/drivertest", "pkg/drivers/...", "pkg/plugin/...", "pkg/route", "pkg/sealed"},
	4: {"pkg/builtin", "pkg/gateway", "pkg/adminapi"},
	5: {"internal/node", "internal/control", "internal/arch", "cmd/...", "t/...", "t", "bench/...", "bench", "conf"},
}

// libraries names the packages that may import a library; others may not. The key is a
// prefix of the import path.
var libraries = map[string][]string{
	"github.com/gin-gonic/gin":                {"pkg/adminapi"},
	"github.com/hashicorp/golang-lru":         {"pkg/balancer"},
	"github.com/santhosh-tekuri/jsonschema":   {}, // tests hold pkg/schema to it
	"go.yaml.in/yaml":                         {"pkg/config", "t/blocktest/stage"},
	"github.com/dlclark/regexp2":              {"pkg/expr", "pkg/schema", "pkg/adminapi", "t/blocktest/perl", "t/blocktest/lua"},
	"github.com/bufbuild/protocompile":        {"pkg/protodef"},
	"google.golang.org/protobuf":              {"pkg/protodef"},
	"github.com/theory/jsonpath":              {"pkg/variable"},
	"github.com/vektah/gqlparser":             {"pkg/variable"},
	"github.com/hashicorp/go-immutable-radix": {"pkg/route"},
	"go.etcd.io/etcd/server":                  {"pkg/store/embedetcd"},
	"go.etcd.io/etcd/client":                  {"pkg/store/etcdstore", "pkg/store/embedetcd", "t/blocktest/lua"},
	"go.etcd.io/etcd/api":                     {"pkg/store/etcdstore"},
	"google.golang.org/grpc":                  {"pkg/store/etcdstore"},
	"github.com/spf13/cobra":                  {"cmd/gosix", "internal/node"},
	"github.com/go-json-experiment/json":      {"pkg/plugin", "pkg/drivers/convert"},
	"github.com/prometheus/":                  {"pkg/plugin/prometheus"},
	"github.com/yuin/gopher-lua":              {"t/blocktest/lua"},
}

type listed struct {
	ImportPath  string
	Dir         string
	Imports     []string
	TestImports []string
	GoFiles     []string
	TestGoFiles []string
}

func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Imports,TestImports,GoFiles,TestGoFiles", "./...")
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

const root = "../.."

type place struct{ row, column int }

// placeOf finds the most exact entry for a package.
func placeOf(pkg string) (place, bool) {
	best, at := -1, place{}
	for r, row := range rows {
		for c, name := range row {
			below, open := strings.CutSuffix(name, "/...")
			match := name == pkg || open && strings.HasPrefix(pkg, below+"/")
			// An exact name beats any pattern.
			weight := len(below)
			if name == pkg {
				weight += 1000
			}
			if match && weight > best {
				best, at = weight, place{r, c}
			}
		}
	}
	return at, best >= 0
}

func TestImportsPointDown(t *testing.T) {
	for _, p := range packages(t) {
		pkg := strings.TrimPrefix(p.ImportPath, module)
		from, known := placeOf(pkg)
		if !known {
			t.Errorf("%s stands in no row of the table; add it to internal/arch and ARCHITECTURE.md", pkg)
			continue
		}
		for _, path := range p.Imports {
			to := strings.TrimPrefix(path, module)
			if to == path {
				continue
			}
			at, known := placeOf(to)
			if !known || at.row > from.row || at.row == from.row && at.column > from.column {
				t.Errorf("%s (row %d) imports %s (row %d), which is not below it", pkg, from.row, to, at.row)
			}
			if from.row == 3 && at.row == 3 && to != pkg && to != "pkg/drivers/drivertest" {
				t.Errorf("%s imports %s: packages of row 3 do not know each other", pkg, to)
			}
		}
	}
}

func TestLibrariesStayWhereTheyAreUsed(t *testing.T) {
	for _, p := range packages(t) {
		pkg := strings.TrimPrefix(p.ImportPath, module)
		for _, path := range p.Imports {
			for library, users := range libraries {
				if strings.HasPrefix(path, library) && !contains(users, pkg) {
					t.Errorf("%s imports %s, which only %s may", pkg, path, strings.Join(users, ", "))
				}
			}
		}
	}
}

// encoding/json matches the names of members without regard to letter case, so that a
// configuration would be obeyed by names that no schema has judged (spec/00 7). Packages
// of plugins read with plugin.Decode.
func TestPluginsDecodeLetterByLetter(t *testing.T) {
	for _, p := range packages(t) {
		pkg := strings.TrimPrefix(p.ImportPath, module)
		if pkg != "pkg/plugin" && !strings.HasPrefix(pkg, "pkg/plugin/") {
			continue
		}
		for _, name := range p.GoFiles {
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			std := importedAs(f, "encoding/json")
			ast.Inspect(f, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok && contains([]string{"Unmarshal", "NewDecoder"}, s.Sel.Name) {
					if from, ok := s.X.(*ast.Ident); ok && from.Name == std {
						t.Errorf("%s: encoding/json reads a configuration; use plugin.Decode", fset.Position(s.Pos()))
					}
				}
				return true
			})
		}
	}
}

// importedAs is the name that a file gives to a package; "" if it does not import it.
func importedAs(f *ast.File, path string) string {
	for _, i := range f.Imports {
		if i.Path.Value != strconv.Quote(path) {
			continue
		}
		if i.Name != nil {
			return i.Name.Name
		}
		return path[strings.LastIndexByte(path, '/')+1:]
	}
	return ""
}

func contains(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}

// What a program links is memory of every one of its processes.
func TestProgramsLinkNoMoreThanTheyServe(t *testing.T) {
	for program, foreign := range map[string][]string{
		"./cmd/admin":   {"go.etcd.io/etcd/server/"},
		"./cmd/gateway": {"go.etcd.io/etcd/server/", "github.com/gin-gonic/", "github.com/bufbuild/", module + "pkg/adminapi", module + "internal/control"},
	} {
		cmd := exec.Command("go", "list", "-deps", program)
		cmd.Dir = root
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, dep := range strings.Fields(string(out)) {
			for _, prefix := range foreign {
				if strings.HasPrefix(dep, prefix) {
					t.Errorf("%s links %s", program, dep)
				}
			}
		}
	}
}

// The linker leaves out the methods that nobody calls, unless something calls methods by
// names that it cannot know: then it keeps all, of which a gateway had 4 MiB in memory.
func TestGatewayLinksNoMethodInVain(t *testing.T) {
	cmd := exec.Command("go", "build", "-buildvcs=false", "-tags=grpcnotrace", "-ldflags=-dumpdep", "-o", filepath.Join(t.TempDir(), "gateway"), "./cmd/gateway")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go build: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		if caller, callee, _ := strings.Cut(strings.TrimSpace(line), " -> "); strings.HasSuffix(callee, " <ReflectMethod>") {
			t.Fatalf("%s, which %s refers to, calls methods by their names", strings.TrimSuffix(callee, " <ReflectMethod>"), caller)
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	for _, p := range packages(t) {
		files := p.GoFiles
		if len(files) == 0 {
			files = p.TestGoFiles
		}
		var doc string
		for _, name := range files {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.ParseComments|parser.PackageClauseOnly)
			if err != nil {
				t.Fatal(err)
			}
			if f.Doc != nil {
				doc += f.Doc.Text()
			}
		}
		if len(doc) < 40 {
			t.Errorf("%s has no package comment that says what it is", p.ImportPath)
		}
	}
}

func TestExportedNamesAreDocumented(t *testing.T) {
	for _, p := range packages(t) {
		if !strings.Contains(p.ImportPath, "/pkg/") {
			continue
		}
		for _, name := range p.GoFiles {
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			for _, missing := range undocumented(f) {
				t.Errorf("%s: exported %s has no comment", fset.Position(missing.Pos()), missing.Name)
			}
		}
	}
}

func undocumented(f *ast.File) (names []*ast.Ident) {
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && d.Doc == nil && (d.Recv == nil || exportedReceiver(d.Recv) && !implied(d.Name.Name)) {
				names = append(names, d.Name)
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				if ts, ok := s.(*ast.TypeSpec); ok && ts.Name.IsExported() && d.Doc == nil && ts.Doc == nil {
					names = append(names, ts.Name)
				}
			}
		}
	}
	return names
}

// implied are methods whose meaning an interface of the standard library gives.
func implied(name string) bool {
	return contains([]string{"Error", "String", "GoString", "Unwrap", "Is", "MarshalJSON", "UnmarshalJSON", "MarshalText", "Read", "Write", "Close", "Len", "Less", "Swap", "UnmarshalYAML"}, name)
}

func exportedReceiver(r *ast.FieldList) bool {
	e := r.List[0].Type
	if star, ok := e.(*ast.StarExpr); ok {
		e = star.X
	}
	if index, ok := e.(*ast.IndexExpr); ok {
		e = index.X
	}
	id, ok := e.(*ast.Ident)
	return ok && id.IsExported()
}

// ARCHITECTURE.md's table and the one above are the same.
func TestArchitectureNamesEveryPackage(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, row := range rows {
		for _, name := range row {
			if strings.HasPrefix(name, "pkg/") {
				names = append(names, strings.TrimSuffix(strings.TrimPrefix(name, "pkg/"), "/..."))
			}
		}
	}
	sort.Strings(names)
	for _, name := range names {
		if !bytes.Contains(text, []byte("`"+name)) {
			t.Errorf("ARCHITECTURE.md does not name `%s`", name)
		}
	}
}

// A setting that nothing reads would be a promise that nobody keeps. What means nothing
// belongs to the ignored keys of pkg/config.
func TestEverySettingIsRead(t *testing.T) {
	read := map[string]bool{}
	var settings []string
	for _, p := range packages(t) {
		own := p.ImportPath == module+"pkg/config"
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(f, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.SelectorExpr:
					read[n.Sel.Name] = read[n.Sel.Name] || !own
				case *ast.Field:
					if own && n.Tag != nil && strings.Contains(n.Tag.Value, "yaml:") {
						settings = append(settings, n.Names[0].Name)
					}
				}
				return true
			})
		}
	}
	if len(settings) == 0 {
		t.Fatal("pkg/config has no settings")
	}
	for _, name := range settings {
		if !read[name] {
			t.Errorf("config: %s is a setting that no package reads", name)
		}
	}
}

// A program that was built in place is soon committed with the rest, and stays in every clone.
func TestNoProgramIsPartOfTheSource(t *testing.T) {
	cmd := exec.Command("git", "ls-files", "-z")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("git ls-files: %v", err) // a tarball, or a checkout of another owner
	}
	for name := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		f, err := os.Open(filepath.Join(root, name))
		if err != nil {
			continue // removed, and not committed yet
		}
		magic := make([]byte, 4)
		_, err = io.ReadFull(f, magic)
		_ = f.Close()
		if err == nil && string(magic) == "\x7fELF" {
			t.Errorf("%s is a program: remove it, it is built from source", name)
		}
	}
}
