package main

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestSecurity says what hostile clients and upstreams are known to say to
// gateways that run as serve runs them, and reads the verdict from both sides:
// what the client got, and what bytes the upstream saw. What comes of it is the
// table in .github/SECURITY.md: `make security` prints it, and writes it when it
// differs. Cases of one class are in one file, security_CLASS_test.go.
//
// Six things are looked at whatever the case (security_invariants_test.go):
// identity headers, access, one request for one, and at the end of all cases
// that nothing was left behind.
func TestSecurity(t *testing.T) {
	b := newHostileBed(t)
	b.warm(t)
	goroutines, files := settled(t, 0, 0)
	var table bytes.Buffer
	total, rows, wanted := outcomes{}, 0, 0
	for _, class := range hostileClasses {
		cases := class.cases(b)
		wanted += len(cases)
		t.Run(class.name, func(t *testing.T) {
			fmt.Fprintf(&table, "\n### %s\n\n| no. | case | what comes of it |\n| --- | --- | --- |\n", class.title)
			slices.SortStableFunc(cases, func(x, y hostile) int { return cmp.Compare(orLast(x.number), orLast(y.number)) })
			for _, c := range cases {
				t.Run(c.label(), func(t *testing.T) {
					outcome := c.check(t, b, total)
					number := fmt.Sprint(c.number)
					if c.number == 0 {
						number = ""
					}
					fmt.Fprintf(&table, "| %s | %s | %s |\n", number, cell(c.name), cell(outcome))
					rows++
				})
			}
		})
	}
	settled(t, goroutines+10, files+10)
	for _, gw := range []*servedGateway{b.plain, b.secure} {
		if log := gw.stderr.String(); strings.Contains(log, "panic") {
			t.Errorf("the gateway's log speaks of a panic:\n%.3000s", log[strings.Index(log, "panic"):])
		}
	}
	if !t.Failed() && rows == wanted { // not with -run for some of them
		total.print(&table)
		compareTable(t, table.String())
	}
}

// A class is a part of the table.
type hostileClass struct {
	name, title string
	cases       func(b *hostileBed) []hostile
}

var hostileClasses = []hostileClass{
	{"identity", "A. Identity headers", identityCases},
	{"paths", "B. Paths, methods, hosts and routes", pathCases},
	{"framing", "C. Framing and smuggling", framingCases},
	{"tokens", "D. Tokens", tokenCases},
	{"login", "E. Login, registration, cookies and browsers", loginCases},
	{"revocation", "F. Revocation and Redis", revocationCases},
	{"upstream", "G. Upstreams, floods and streams", upstreamCases},
	{"operation", "H. Configuration and operation", operationCases},
}

// A hostile is one case: a row of the table.
type hostile struct {
	number  int    // of the sample that the cases began with; 0: of the same class
	name    string // with what is sent where that is short
	because string // why it is let through, or what else there is to say

	// One of these three says what happens.
	sent []sent                                       // requests, each by itself
	run  func(t *testing.T, b *hostileBed) string     // anything else; it returns what came of it
	held []string                                     // PACKAGE.TEST that the case is, where it takes another bed than this one
	each func(t *testing.T, b *hostileBed, rep heard) // looks further at what came of each of sent
}

// sent is one request and what must come of it.
type sent struct {
	raw       string      // over HTTP/1, plain and with TLS
	once      bool        // in plain text is enough
	h2        [][2]string // or fields over HTTP/2
	body      string      // of h2
	h2trailer [][2]string
	as        string   // whose credential is good: alice or admin; nobody's if empty
	want      string   // see outcomeText
	sees      []string // what the captured request must hold as a line, or with "!" must not have in it
}

func (c *hostile) label() string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || r == '/' || r < ' ' || r > '~' {
			return '-'
		}
		return r
	}, fmt.Sprintf("%d-%.40s", c.number, c.name))
}

func orLast(n int) int {
	if n == 0 {
		return 1 << 30
	}
	return n
}

// cell makes text fit for a table of Markdown.
func cell(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, s)
	return strings.NewReplacer("|", `\|`, "<", "&lt;").Replace(s)
}

// outcomes counts requests by what came of them.
type outcomes map[string]int

func (n outcomes) print(w *bytes.Buffer) {
	sum := 0
	for _, count := range n {
		sum += count
	}
	words := []string{}
	for _, kind := range []string{"refused", "clean", "answered", "held"} {
		words = append(words, fmt.Sprintf("%d %s", n[kind], map[string]string{
			"refused": "are refused or cut off", "clean": "arrive clean", "answered": "are answered by the gateway itself",
			"held": "are tests with another bed than raw sockets to this one"}[kind]))
	}
	fmt.Fprintf(w, "\nOf %d requests and actions %s.\n", sum, strings.Join(words, ", "))
}

// check carries out a case and returns its cell of the table.
func (c *hostile) check(t *testing.T, b *hostileBed, total outcomes) string {
	t.Helper()
	switch {
	case c.held != nil:
		total["held"]++
		return c.withReason("held by " + strings.Join(existing(t, c.held), ", "))
	case c.run != nil:
		outcome := c.run(t, b)
		total[kindOfOutcome(outcome)]++
		return c.withReason(outcome)
	}
	counts := map[string]int{}
	for _, s := range c.sent {
		got := c.one(t, b, s)
		counts[got]++
		total[kindOfOutcome(got)]++
	}
	var parts []string
	for got, n := range counts {
		if n > 1 {
			got = fmt.Sprintf("%s (%d times)", got, n)
		}
		parts = append(parts, got)
	}
	slices.Sort(parts)
	return c.withReason(strings.Join(parts, "; "))
}

func (c *hostile) withReason(outcome string) string {
	if c.because == "" {
		return outcome
	}
	return outcome + ": " + c.because
}

func kindOfOutcome(outcome string) string {
	for _, word := range []string{"clean", "answered"} {
		if strings.Contains(outcome, word) {
			return word
		}
	}
	return "refused"
}

// one sends a request by every way that there is for it.
func (c *hostile) one(t *testing.T, b *hostileBed, s sent) string {
	t.Helper()
	shown := fmt.Sprintf("%.300q", s.raw)
	if s.h2 != nil {
		rep := b.heardHTTP2(t, s)
		c.judge(t, b, s, rep, fmt.Sprintf("HTTP/2 %.300q", s.h2))
		return outcomeText(s.want)
	}
	for way, gw := range b.gateways() {
		if s.once && gw != b.plain {
			continue
		}
		rep := b.heardHTTP1(t, gw, s)
		c.judge(t, b, s, rep, way+" "+shown)
	}
	return outcomeText(s.want)
}

func (c *hostile) judge(t *testing.T, b *hostileBed, s sent, rep heard, shown string) {
	t.Helper()
	if got := rep.outcome; !slices.Contains(strings.Split(s.want, "|"), got) {
		t.Errorf("%s:\n%s, want %s\n%.200s", shown, got, s.want, rep.raw)
		return
	}
	for _, wrong := range rep.wrong(s) {
		t.Errorf("%s:\n%.2000s", shown, wrong)
	}
	if c.each != nil {
		c.each(t, b, rep)
	}
}

// outcomeText is how the table tells an outcome. Where timing decides between two
// that are as good as each other, it names both.
func outcomeText(want string) string {
	var words []string
	for one := range strings.SplitSeq(want, "|") {
		switch one {
		case "clean":
			one = "arrives clean"
		case "302":
			one = "sent to the login page, 302"
		case "own 204", "own 200", "own 201":
			one = "answered by the gateway with " + one[4:]
		case "reset":
			one = "refused, the stream is reset"
		case "closed":
			one = "refused, the connection is closed"
		case "cut":
			one = "cut off, the upstream sees an aborted request"
		default:
			one = "refused with " + one
		}
		words = append(words, one)
	}
	return strings.Join(words, " or ")
}

// existing checks that the tests that rows point to are there.
func existing(t *testing.T, names []string) []string {
	t.Helper()
	for _, name := range names {
		pkg, test, _ := strings.Cut(name, ".")
		files, err := filepath.Glob(filepath.Join(root(t), filepath.FromSlash(pkg), "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(files, func(file string) bool { return declares(t, file, test) }) {
			t.Errorf("%s has no %s", pkg, test)
		}
	}
	return names
}

func declares(t *testing.T, file, test string) bool {
	t.Helper()
	f, err := parser.ParseFile(gotoken.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(f.Decls, func(d ast.Decl) bool {
		fn, is := d.(*ast.FuncDecl)
		return is && fn.Recv == nil && fn.Name.Name == test
	})
}

var writeTable = flag.Bool("write-security-table", false, "write what TestSecurity finds to .github/SECURITY.md")

const (
	tableBegin = "<!-- written by make security -->\n"
	tableEnd   = "<!-- until here -->\n"
)

// compareTable holds .github/SECURITY.md to what was found.
func compareTable(t *testing.T, found string) {
	t.Helper()
	file := filepath.Join(root(t), ".github", "SECURITY.md")
	text := readFile(t, file)
	before, rest, ok := strings.Cut(text, tableBegin)
	written, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table, between %q and %q", file, tableBegin, tableEnd)
	}
	if *writeTable {
		if err := os.WriteFile(file, []byte(before+tableBegin+found+"\n"+tableEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if written == found+"\n" {
		return
	}
	have, want := strings.Split(written, "\n"), strings.Split(found, "\n")
	for i, line := range want {
		if i >= len(have) || have[i] != line {
			t.Fatalf(".github/SECURITY.md is not what was found; make security writes it. The first difference:\n%s", line)
		}
	}
	t.Fatal(".github/SECURITY.md has more than was found; make security writes it")
}

// warm sends what makes the gateways open what they keep open.
func (b *hostileBed) warm(t *testing.T) {
	for _, gw := range b.gateways() {
		if rep := b.say(t, gw, "GET /public/warm HTTP/1.1\r\nHost: gw.example\r\n\r\n"+marker); !slices.Equal(rep.statuses, []int{200, 200}) {
			t.Fatalf("the gateway answers %d: %s", rep.statuses, rep.raw)
		}
	}
	b.app.take(t)
}
