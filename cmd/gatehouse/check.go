package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gatehouse/authn"
	"gatehouse/config"
	"gatehouse/proxy"
)

func (a *app) checkCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration and run its tests",
		Long: "Reads the configuration and every file that it names, reports each problem with\n" +
			"file, line and column, runs its tests: and prints the routes, the most specific\n" +
			"first. It makes no file and reaches no network. Exit code 1 if anything is wrong;\n" +
			"warnings alone are not.",
	}
	o := a.outputOf(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		c := a.check()
		if !o.json {
			printProblems(a.stderr, "", c.problems)
			printProblems(a.stderr, "warning: ", c.warnings)
		}
		if err := o.print(c.json(), c.print); err != nil {
			return err
		}
		if len(c.problems) > 0 {
			return errReported
		}
		return nil
	}
	return cmd
}

// A checkup is what check has found.
type checkup struct {
	problems, warnings []config.Problem
	routes             []*proxy.Route // nil if they could not be compiled
	tests, failed      int
}

// check looks at everything that serving would need, without doing any of it.
func (a *app) check() *checkup {
	c := &checkup{}
	cfg, err := a.load()
	if err != nil {
		c.add(err)
		return c
	}
	c.warnings = cfg.Warnings
	keys, err := authn.ReadKeys(cfg)
	c.add(err)
	if err == nil {
		c.warnings = append(c.warnings, keys.Warnings()...)
	}
	served, err := certificates(cfg)
	c.add(err)
	if err == nil {
		c.warnings = append(c.warnings, expiry(cfg, served, time.Now())...)
	}
	_, err = authn.NewTrustedIssuers(cfg, time.Now)
	c.add(err)
	_, err = databaseURL(cfg)
	c.add(err)
	snapshot, err := drySnapshot(cfg)
	c.add(err)
	if err == nil {
		c.routes = snapshot.Routes()
		c.warnings = append(c.warnings, fallThroughs(snapshot)...)
		failed := runTests(cfg, snapshot)
		c.problems = append(c.problems, failed...)
		c.tests, c.failed = len(cfg.Tests), len(failed)
	}
	inOrder := func(p, q config.Problem) int {
		return cmp.Or(cmp.Compare(p.Pos.Line, q.Pos.Line), cmp.Compare(p.Pos.Column, q.Pos.Column))
	}
	slices.SortStableFunc(c.problems, inOrder)
	slices.SortStableFunc(c.warnings, inOrder)
	return c
}

// add notes every problem in err.
func (c *checkup) add(err error) {
	if err == nil {
		return
	}
	found := problemsIn(err)
	if len(found) == 0 {
		found = []config.Problem{{Text: err.Error()}}
	}
	c.problems = append(c.problems, found...)
}

// runTests runs the tests: of a configuration against what was compiled from
// it, and returns one problem for each that fails.
func runTests(cfg *config.Config, s *proxy.Snapshot) []config.Problem {
	var failed []config.Problem
	for i, t := range cfg.Tests {
		key := fmt.Sprintf("tests[%d]", i)
		asked := strings.Trim(cfg.Quote(key+".request", t.Request), `"`)
		fail := func(why, hint string) {
			failed = append(failed, config.Problem{
				Pos:  t.Pos,
				Text: fmt.Sprintf("%s: %s as %s: %s", key, asked, subjectText(t.As), why),
				Hint: hint,
			})
		}
		method, target, _ := strings.Cut(t.Request, " ")
		r, err := requestOf(cfg.PublicURL, method, target, nil)
		if err != nil {
			fail(err.Error(), "")
			continue
		}
		v := judge(s, s.DecideAs, r, subject(t.As))
		if wrong := unexpected(cfg, key+".expect", t.Expect, v); len(wrong) > 0 {
			fail(strings.Join(wrong, "; "), v.trace())
		}
	}
	return failed
}

// subject is the identity that a test asks as.
func subject(as *config.Subject) *authn.Identity {
	if as == nil {
		return nil
	}
	return pretend(authn.User{
		ID:    cmp.Or(as.ID, "test-user"), // no token is without one
		Email: as.Email,
		Name:  cmp.Or(as.Name, as.Email),
		Roles: as.Roles,
	}, as.Claims)
}

func subjectText(as *config.Subject) string {
	if as == nil {
		return "nobody"
	}
	words := []string{}
	if who := cmp.Or(as.Email, as.ID, as.Name); who != "" {
		words = append(words, who)
	}
	if len(as.Roles) > 0 || len(words) == 0 {
		words = append(words, fmt.Sprintf("roles [%s]", strings.Join(as.Roles, ", ")))
	}
	return strings.Join(words, " with ")
}

// unexpected lists where a verdict differs from what a test expects. It spells
// what is wanted as the file does, without the values of variables.
func unexpected(cfg *config.Config, key string, want config.Expect, v verdict) []string {
	var wrong []string
	differ := func(what, got, key, want string) {
		switch {
		case got == want:
			return
		case got == "":
			got = "none"
		default:
			got = strconv.Quote(got)
		}
		wrong = append(wrong, fmt.Sprintf("%s %s, want %s", what, got, cfg.Quote(key, want)))
	}
	if want.Status != 0 && want.Status != v.status {
		wrong = append(wrong, fmt.Sprintf("status %d, want %d", v.status, want.Status))
	}
	route, code := "", ""
	if v.Route != nil {
		route = v.Route.Name
	}
	if v.refused != nil {
		code = v.refused.Code
	}
	if want.Route != "" {
		differ("route", route, key+".route", want.Route)
	}
	if want.Error != "" {
		differ("error", code, key+".error", want.Error)
	}
	if want.Upstream != "" {
		differ("upstream", v.upstream(), key+".upstream", want.Upstream)
	}
	if len(want.Headers) > 0 && v.outgoing == nil {
		return append(wrong, "headers, and nothing is forwarded")
	}
	for _, name := range slices.Sorted(maps.Keys(want.Headers)) {
		got, wanted := headersOf(v.outgoing)[http.CanonicalHeaderKey(name)], want.Headers[name]
		switch {
		case got == wanted:
		case setByRoute(v.Route, name):
			wrong = append(wrong, fmt.Sprintf("header %s differs (set_headers sets it, and its value may be a secret)", name))
		case wanted == "":
			wrong = append(wrong, fmt.Sprintf("header %s %q, want none", name, got))
		default:
			differ("header "+name, got, key+".headers."+name, wanted)
		}
	}
	return wrong
}

func setByRoute(rt *proxy.Route, name string) bool {
	for set := range rt.SetHeaders {
		if strings.EqualFold(set, name) {
			return true
		}
	}
	return false
}

// trace is the way to a verdict, in one line.
func (v verdict) trace() string {
	if v.Route == nil {
		return v.reason()
	}
	return fmt.Sprintf("route %s (%s): %s", v.Route.Name, v.Route.Pos, v.reason())
}

// fallThroughs warns of routes that are limited to some methods while the
// others reach a broader route that asks for less. That is how routes rank, and
// seldom what was meant.
func fallThroughs(s *proxy.Snapshot) []config.Problem {
	var warnings []config.Problem
	for _, rt := range s.Routes() {
		if len(rt.Methods) == 0 || rt.Access.Kind == config.AccessPublic {
			continue
		}
		var open []*proxy.Route // in the order in which they are met
		methods := map[*proxy.Route][]string{}
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} {
			r, err := requestOf("http://"+sampleHost(rt.Host), method, samplePath(rt), nil)
			if err != nil {
				continue
			}
			d, _ := s.DecideAs(r, nil) // whom it lets in is not the question
			if d.Route == nil || d.Route == rt || !moreOpen(d.Route.Access, rt.Access) {
				continue
			}
			if methods[d.Route] == nil {
				open = append(open, d.Route)
			}
			methods[d.Route] = append(methods[d.Route], method)
		}
		for _, got := range open {
			warnings = append(warnings, config.Problem{
				Pos: rt.Pos,
				Text: fmt.Sprintf("route %q takes %s only: %s of the same path falls through to route %q (%s), which is more open (%s)",
					rt.Name, strings.Join(rt.Methods, ", "), strings.Join(methods[got], ", "), got.Name, got.Pos, accessText(got.Access)),
				Hint: "leave out methods, or add a route for the others",
			})
		}
	}
	return warnings
}

// samplePath is a path that rt covers.
func samplePath(rt *proxy.Route) string {
	segments := strings.Split(rt.Path, "/")
	for i, segment := range segments {
		if strings.HasPrefix(segment, "{") {
			segments[i] = "x"
		}
	}
	return (&url.URL{Path: strings.Join(segments, "/")}).EscapedPath()
}

func sampleHost(pattern string) string {
	return cmp.Or(strings.Replace(pattern, "*", "x", 1), "localhost")
}

// moreOpen reports whether somebody may pass a whom b keeps out, as far as the
// configuration alone tells.
func moreOpen(a, b config.Access) bool {
	rank := map[string]int{config.AccessPublic: 0, config.AccessOptional: 0, config.AccessAuthenticated: 1, config.AccessRestricted: 2}
	if rank[a.Kind] != rank[b.Kind] || a.Kind != config.AccessRestricted {
		return rank[a.Kind] < rank[b.Kind]
	}
	within := func(a, b []string) bool { // everything that satisfies a satisfies b
		return len(b) == 0 || len(a) > 0 && !slices.ContainsFunc(a, func(s string) bool { return !slices.Contains(b, s) })
	}
	for name, value := range b.Claims {
		if given, ok := a.Claims[name]; !ok || !reflect.DeepEqual(given, value) {
			return true
		}
	}
	return !within(a.Roles, b.Roles) || !within(a.Emails, b.Emails)
}

// accessText is an access as the route table shows it.
func accessText(a config.Access) string {
	if a.Kind != config.AccessRestricted {
		return a.Kind
	}
	var words []string
	if len(a.Roles) > 0 {
		words = append(words, "roles "+strings.Join(a.Roles, "|"))
	}
	if len(a.Emails) > 0 {
		words = append(words, "emails "+strings.Join(a.Emails, "|"))
	}
	for _, name := range slices.Sorted(maps.Keys(a.Claims)) {
		words = append(words, fmt.Sprintf("claim %s=%v", name, a.Claims[name]))
	}
	return strings.Join(words, ", ")
}

// A routeJSON is a row of the route table.
type routeJSON struct {
	Name     string   `json:"name"`
	At       string   `json:"at"`
	Host     string   `json:"host"` // "" is any
	Path     string   `json:"path"`
	Exact    bool     `json:"exact"`
	Methods  []string `json:"methods"` // empty: all
	Access   string   `json:"access"`
	Upstream []string `json:"upstream"`
}

type checkJSON struct {
	OK       bool          `json:"ok"`
	Problems []problemJSON `json:"problems"`
	Warnings []problemJSON `json:"warnings"`
	Routes   []routeJSON   `json:"routes"`
	Tests    int           `json:"tests"`
	Failed   int           `json:"failed"`
}

func (c *checkup) json() checkJSON {
	out := checkJSON{
		OK:       len(c.problems) == 0,
		Problems: problemsJSON(c.problems),
		Warnings: problemsJSON(c.warnings),
		Routes:   []routeJSON{},
		Tests:    c.tests,
		Failed:   c.failed,
	}
	for _, rt := range c.routes {
		var urls []string
		for _, u := range rt.Upstream {
			urls = append(urls, u.URL)
		}
		out.Routes = append(out.Routes, routeJSON{
			rt.Name, rt.Pos.String(), rt.Host, rt.Path, rt.Exact, notNil(rt.Methods), accessText(rt.Access), urls,
		})
	}
	return out
}

func (c *checkup) print(w io.Writer) {
	if c.routes == nil {
		return
	}
	var rows [][]string
	for _, rt := range c.json().Routes {
		path := rt.Path
		if rt.Exact {
			path += " (exact)"
		}
		rows = append(rows, []string{
			rt.Name, cmp.Or(rt.Host, "any"), path, cmp.Or(strings.Join(rt.Methods, ","), "all"), rt.Access, strings.Join(rt.Upstream, ", "),
		})
	}
	table(w, []string{"ROUTE", "HOST", "PATH", "METHODS", "ACCESS", "UPSTREAM"}, rows)
	fmt.Fprintf(w, "\n%s, %s passed", count(len(c.routes), "route"), count(c.tests-c.failed, "test"))
	if c.failed > 0 {
		fmt.Fprintf(w, ", %d failed", c.failed)
	}
	fmt.Fprintln(w)
}
