package main

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The architecture, as a test. These are the rules:
//
//	config tells what is wanted, authn who is calling, proxy decides and
//	forwards, cmd ties them together.
//
// ours says which of our packages each of them may import.
var ours = map[string][]string{
	"config":           {},
	"authn":            {"config"},
	"authn/sqlstore":   {"authn"},
	"authn/redisstore": {"authn"},
	"authn/endpoints":  {"authn", "authn/pages", "config"},
	"authn/pages":      {"authn", "config"},
	"authn/authntest":  {"authn"},
	"proxy":            {"authn", "authn/pages", "config"},
	"proxy/proxytest":  {},
	"cmd/gatehouse":    {"config", "authn", "authn/pages", "authn/sqlstore", "authn/redisstore", "authn/endpoints", "proxy"},
	"cmd/loadtest":     {},
}

// homes says where each outside library lives. A path stands for all below it.
var homes = map[string][]string{
	"gopkg.in/yaml.v3":                {"config"},
	"github.com/fsnotify/fsnotify":    {"config"},
	"github.com/golang-jwt/jwt":       {"authn"},
	"github.com/MicahParks":           {"authn"},
	"github.com/ccojocar/zxcvbn-go":   {"authn"},
	"golang.org/x/crypto":             {"authn"},
	"golang.org/x/text":               {"authn", "config", "proxy"},
	"modernc.org/sqlite":              {"authn/sqlstore"},
	"github.com/jackc/pgx":            {"authn/sqlstore"},
	"github.com/redis/go-redis":       {"authn/redisstore"},
	"github.com/prometheus":           {"proxy"},
	"golang.org/x/net":                {"proxy", "config", "authn"},
	"github.com/spf13/cobra":          {"cmd/gatehouse"},
	"golang.org/x/term":               {"cmd/gatehouse"},
	"golang.org/x/sys":                {"cmd/gatehouse", "authn"},
	"github.com/coder/websocket":      {}, // tests only
	"github.com/chromedp":             {}, // tests only
	"github.com/rogpeppe/go-internal": {}, // tests only
	"github.com/anishathalye":         {}, // tests only
}

// standard says the same of parts of the standard library.
var standard = map[string][]string{
	"database/sql": {"authn/sqlstore"},
	"os/signal":    {"cmd/gatehouse", "cmd/loadtest"},
	"net":          {"proxy", "cmd/gatehouse", "cmd/loadtest", "authn", "authn/sqlstore", "authn/redisstore", "authn/authntest"}, // not config: it reaches no network
	"net/http":     {"proxy", "authn", "authn/endpoints", "authn/pages", "proxy/proxytest", "cmd/gatehouse", "cmd/loadtest"},     // authn: as a client only, see checkFile
}

// clientFiles fetch the keys of trusted issuers. Nothing else of authn has to
// do with HTTP.
var clientFiles = []string{"issuer.go", "fetch.go"}

// ofProcess is what of package os only the program itself may ask for.
var ofProcess = []string{"Args", "Exit", "Getenv", "LookupEnv", "Environ", "ExpandEnv"}

type listed struct {
	ImportPath, Dir string
	GoFiles         []string
	Imports         []string
}

func TestImports(t *testing.T) {
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports", "./...")
	cmd.Dir = filepath.Join("..", "..")
	var out, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	dec := json.NewDecoder(strings.NewReader(out.String()))
	for {
		var p listed
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix(p.ImportPath, "gatehouse/")
		for _, broken := range brokenRules(name, p.Imports) {
			t.Error(broken)
		}
		for _, file := range p.GoFiles {
			checkFile(t, name, filepath.Join(p.Dir, file))
		}
	}
}

// The rules can be broken: a test that accepts everything says nothing.
func TestImportRules(t *testing.T) {
	for _, c := range []struct{ pkg, imports, rule string }{
		{"config", "gatehouse/authn", "config may import of ours: nothing"},
		{"config", "net/http", "net/http lives in"},
		{"authn", "gatehouse/proxy", "authn may import of ours: config"},
		{"authn", "gatehouse/authn/sqlstore", "authn may import of ours: config"},
		{"authn", "database/sql", "database/sql lives in authn/sqlstore"},
		{"proxy", "gatehouse/authn/endpoints", "proxy may import of ours: authn, authn/pages, config"},
		{"proxy", "github.com/golang-jwt/jwt/v5", "github.com/golang-jwt/jwt lives in authn"},
		{"authn/endpoints", "gatehouse/authn/authntest", "authn/endpoints may import of ours: authn, authn/pages, config"},
		{"cmd/gatehouse", "gatehouse/authn/authntest", "cmd/gatehouse may import"},
		{"cmd/gatehouse", "github.com/prometheus/client_golang/prometheus", "github.com/prometheus lives in proxy"},
		{"authn", "github.com/coder/websocket", "is for tests only"},
		{"authn", "example.com/new", "has no home"},
		{"examples/app", "gatehouse/authn", "imports nothing of ours"},
		{"other", "fmt", "package other has no row"},
	} {
		got := brokenRules(c.pkg, []string{"fmt", c.imports})
		if len(got) != 1 || !strings.Contains(got[0], c.rule) {
			t.Errorf("%s importing %s: %q, want the rule %q", c.pkg, c.imports, got, c.rule)
		}
	}
	if got := brokenRules("proxy", []string{"gatehouse/authn", "net/http", "github.com/prometheus/client_golang/prometheus"}); got != nil {
		t.Errorf("proxy keeps the rules, got %q", got)
	}
}

// brokenRules names every rule that a package with these imports breaks.
func brokenRules(pkg string, imports []string) (broken []string) {
	if strings.HasPrefix(pkg, "examples/") {
		for _, path := range imports {
			if strings.HasPrefix(path, "gatehouse/") {
				broken = append(broken, pkg+" imports "+path+": an example's app stands for somebody else's, it imports nothing of ours")
			}
		}
		return broken
	}
	may, known := ours[pkg]
	if !known {
		return []string{"package " + pkg + " has no row in the import rules: add one in cmd/gatehouse/imports_test.go"}
	}
	for _, path := range imports {
		if our, is := strings.CutPrefix(path, "gatehouse/"); is {
			if !slices.Contains(may, our) {
				broken = append(broken, pkg+" imports "+our+": "+pkg+" may import of ours: "+orNothing(may))
			}
			continue
		}
		if home, is := standard[path]; is && !slices.Contains(home, pkg) {
			broken = append(broken, pkg+" imports "+path+": "+path+" lives in "+strings.Join(home, ", "))
		}
		if first, _, _ := strings.Cut(path, "/"); !strings.Contains(first, ".") {
			continue
		}
		library := libraryOf(path)
		home := homes[library]
		switch {
		case library == "":
			broken = append(broken, pkg+" imports "+path+", which has no home: add one in cmd/gatehouse/imports_test.go")
		case len(home) == 0:
			broken = append(broken, pkg+" imports "+path+", which is for tests only")
		case !slices.Contains(home, pkg):
			broken = append(broken, pkg+" imports "+path+": "+library+" lives in "+strings.Join(home, ", "))
		}
	}
	return broken
}

func libraryOf(path string) string {
	for library := range homes {
		if path == library || strings.HasPrefix(path, library+"/") {
			return library
		}
	}
	return ""
}

func orNothing(list []string) string {
	if len(list) == 0 {
		return "nothing"
	}
	return strings.Join(list, ", ")
}

// checkFile holds a file to what imports alone do not show: the environment and
// the process belong to cmd, and authn sees no request.
func checkFile(t *testing.T, pkg, path string) {
	t.Helper()
	files := gotoken.NewFileSet()
	f, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Error(err)
		return
	}
	imported := map[string]string{} // identifier → path
	for _, spec := range f.Imports {
		p, _ := strconv.Unquote(spec.Path.Value)
		imported[filepath.Base(p)] = p
		if pkg == "authn" && p == "net/http" && !slices.Contains(clientFiles, filepath.Base(path)) {
			t.Errorf("%s imports net/http: in authn only %v do, as a client", path, clientFiles)
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		x, ok := sel.X.(*ast.Ident)
		if !ok {
			return true
		}
		at := files.Position(sel.Pos())
		switch library := imported[x.Name]; {
		case library == "os" && slices.Contains(ofProcess, sel.Sel.Name) && !strings.HasPrefix(pkg, "cmd/"):
			t.Errorf("%s: os.%s belongs to cmd, which hands on what it finds", at, sel.Sel.Name)
		case library == "net/http" && pkg == "authn" && serverSide(sel.Sel.Name):
			t.Errorf("%s: authn sees no http.%s, that is for endpoints and proxy", at, sel.Sel.Name)
		}
		return true
	})
}

// serverSide reports what of net/http a client has no use for.
func serverSide(name string) bool {
	return slices.Contains([]string{"ResponseWriter", "Handler", "HandlerFunc", "Server", "ServeMux", "ListenAndServe"}, name)
}
