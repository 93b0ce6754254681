package pages

import (
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// Every page in every state: one main landmark with one h1, every input with a
// label, every id once, every reference to one that is there, every alert with a
// word in it, what is wrong tied to its field.
func TestStructure(t *testing.T) {
	s := newSet(t, `title: "Acme"`)
	for _, l := range s.languages {
		for _, sample := range s.samples(l) {
			body, err := s.render(sample.Page)
			if err != nil {
				t.Fatal(err)
			}
			for _, wrong := range flaws(t, string(body)) {
				t.Errorf("%s in %s: %s\n%s", sample.Name, l.tag, wrong, body)
			}
		}
	}
	// The test can fail.
	for text, want := range map[string]string{
		`<main><h1>a</h1><input id="x"></main>`:                                         "input x has no label",
		`<main><h1>a</h1><h1>b</h1></main>`:                                             "2 h1",
		`<main><h1>a</h1><p id="x">.</p><p id="x">.</p></main>`:                         "id x twice",
		`<main><h1>a</h1><label for="x">x</label><input id="x" aria-describedby="y">`:   "nothing has the id y",
		`<main><h1>a</h1><button></button></main>`:                                      "a button without words",
		`<main><h1>a</h1><label for="x">x</label><input id="x" aria-invalid="true">`:    "what is wrong with x is not tied to it",
		`<main><h1>a</h1><label for="x">x</label><input id="x" type="password"></main>`: "password x has no autocomplete",
	} {
		if got := flaws(t, `<html lang="en"><title>t</title>`+text); !slices.Contains(got, want) {
			t.Errorf("flaws of %s: %q, want %q", text, got, want)
		}
	}
}

func flaws(t *testing.T, text string) (found []string) {
	t.Helper()
	root, err := html.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	attr := func(n *html.Node, name string) string {
		for _, a := range n.Attr {
			if a.Key == name {
				return a.Val
			}
		}
		return ""
	}
	var words func(n *html.Node) string
	words = func(n *html.Node) string {
		if n.Type == html.TextNode {
			return strings.TrimSpace(n.Data)
		}
		all := ""
		for c := range n.ChildNodes() {
			all += words(c)
		}
		return all
	}
	ids, labels, count := map[string]int{}, map[string]bool{}, map[string]int{}
	for n := range root.Descendants() {
		if n.Type == html.ElementNode {
			count[n.Data]++
			if id := attr(n, "id"); id != "" {
				ids[id]++
			}
			if n.Data == "label" {
				labels[attr(n, "for")] = words(n) != ""
			}
		}
	}
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		id := attr(n, "id")
		hidden := attr(n, "type") == "hidden" || slices.ContainsFunc(n.Attr, func(a html.Attribute) bool { return a.Key == "hidden" })
		switch {
		case n.Data == "html" && attr(n, "lang") == "":
			found = append(found, "no language")
		case n.Data == "title" && words(n) == "":
			found = append(found, "no title")
		case n.Data == "input" && !hidden && !labels[id]:
			found = append(found, "input "+id+" has no label")
		case n.Data == "input" && attr(n, "type") == "password" && attr(n, "autocomplete") == "":
			found = append(found, "password "+id+" has no autocomplete")
		case (n.Data == "button" || n.Data == "a") && words(n) == "":
			found = append(found, "a "+n.Data+" without words")
		}
		if attr(n, "aria-invalid") != "" && !strings.Contains(attr(n, "aria-describedby"), id+"-error") {
			found = append(found, "what is wrong with "+id+" is not tied to it")
		}
		if role := attr(n, "role"); role != "" && words(n) == "" {
			found = append(found, "an empty "+role)
		}
		for _, name := range []string{"aria-describedby", "aria-labelledby", "for"} {
			for ref := range strings.FieldsSeq(attr(n, name)) {
				if ids[ref] == 0 {
					found = append(found, "nothing has the id "+ref)
				}
			}
		}
	}
	for id, n := range ids {
		if n > 1 {
			found = append(found, "id "+id+" twice")
		}
	}
	for _, name := range []string{"main", "h1", "title"} {
		if count[name] != 1 {
			found = append(found, itoa(count[name])+" "+name)
		}
	}
	return found
}
