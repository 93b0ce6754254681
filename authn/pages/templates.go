package pages

import (
	"fmt"
	"html/template"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gatehouse/config"
)

// pageNames are the pages. Each has a template file of its name.
var pageNames = []string{"login", "register", "account", "continue", "error"}

// parse reads the templates, each with the layout around it and the parts that
// all share.
func parse(files map[string]file) (map[string]*template.Template, config.Problems) {
	var problems config.Problems
	for _, name := range names {
		if f := files[name]; f.own && filepath.Ext(name) == ".html" {
			problems = append(problems, f.inline()...)
		}
	}
	parsed := map[string]*template.Template{}
	for _, page := range pageNames {
		t := template.New(layout).Option("missingkey=error")
		for _, name := range []string{layout, parts, page + ".html"} {
			of := t
			if name != layout {
				of = t.New(name)
			}
			if _, err := of.Parse(files[name].text); err != nil {
				problems = append(problems, problemOf(files, name, err))
			}
		}
		parsed[page] = t
	}
	return parsed, unrepeated(problems)
}

// What the policy of every page stops: styles and scripts inside it.
var inlines = []struct {
	pattern *regexp.Regexp
	what    string
	instead string
}{
	{regexp.MustCompile(`(?i)<style\b`), "a <style> element", "put it into " + stylesheet},
	{regexp.MustCompile(`(?i)<[a-z][^<>]*\sstyle\s*=`), "a style attribute", "put it into " + stylesheet},
	{regexp.MustCompile(`(?i)<script\b(?:[^>s]|s[^r>]|sr[^c>])*>`), "a script inside the page", "put it into " + script},
	{regexp.MustCompile(`(?i)<[a-z][^<>]*\son[a-z]+\s*=`), "an event handler in an attribute", "put it into " + script},
	{regexp.MustCompile(`(?i)<base\b`), "a <base> element", "write links from the root"},
}

// inline finds what would silently not work.
func (f file) inline() (problems config.Problems) {
	for _, i := range inlines {
		if at := i.pattern.FindStringIndex(f.text); at != nil {
			line := 1 + strings.Count(f.text[:at[1]], "\n")
			problems = append(problems, f.problem(line, "browsers will not heed "+i.what+": the pages' Content-Security-Policy allows none", i.instead))
		}
	}
	return problems
}

// errorAt finds the place in an error of text/template or html/template:
// "template: login.html:3:5: executing …", "html/template:login.html:3: …".
var errorAt = regexp.MustCompile(`^(?:html/)?template: ?([^:\s]+):(\d+)(?::(\d+))?: (.*)$`)

// problemOf tells where an error of a template is. name is the file that it is
// about if the error does not say.
func problemOf(files map[string]file, name string, err error) config.Problem {
	text := strings.ReplaceAll(err.Error(), "\n", " ")
	m := errorAt.FindStringSubmatch(text)
	if m == nil {
		return files[name].problem(0, text, "")
	}
	f, ok := files[m[1]]
	if !ok {
		f = files[name]
	}
	p := f.problem(0, m[4], "")
	p.Pos.Line, _ = strconv.Atoi(m[2]) // digits
	if m[3] != "" {
		p.Pos.Column, _ = strconv.Atoi(m[3])
		p.Pos.Column++ // they count from 0
	}
	return p
}

func unrepeated(problems config.Problems) config.Problems {
	var found config.Problems
	for _, p := range problems {
		if !slices.Contains(found, p) {
			found = append(found, p)
		}
	}
	return found
}

// try renders every page with everything that it may have to show, in every
// language. The first problem of each file is told.
func (s *Set) try(files map[string]file) config.Problems {
	var problems config.Problems
	seen := map[string]bool{}
	add := func(p config.Problem) {
		if !seen[p.Pos.File] {
			seen[p.Pos.File] = true
			problems = append(problems, p)
		}
	}
	failed := map[string]bool{}
	for _, l := range s.languages {
		for _, sample := range s.samples(l) {
			name := sample.Name + ".html"
			if failed[name] {
				continue
			}
			body, err := s.render(sample.Page)
			if err != nil {
				failed[name] = true
				add(problemOf(files, name, err))
				continue
			}
			for _, want := range sample.wants {
				if !want.in(string(body)) {
					failed[name] = true
					add(files[name].problem(0, "the page has no "+want.what, "people could not use it"))
				}
			}
		}
	}
	return problems
}

// A need is what a page must have to be of use.
type need struct {
	what string
	in   func(body string) bool
}

func matching(what, pattern string) need {
	return need{what, func(body string) bool { return regexp.MustCompile(pattern).MatchString(body) }}
}

func input(name string) need {
	return matching(fmt.Sprintf("input named %q", name), `name\s*=\s*["']?`+name+`["'\s/>]`)
}

func leadsTo(attribute, path string) need {
	return matching(fmt.Sprintf("%s=%q", attribute, path), attribute+`\s*=\s*["']?`+regexp.QuoteMeta(path)+`["'\s?>]`)
}

func shows(what, text string) need {
	return need{what, func(body string) bool { return strings.Contains(body, template.HTMLEscapeString(text)) }}
}
