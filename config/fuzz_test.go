package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// FuzzParse: nothing panics; a configuration that is accepted knows where its
// routes stand; every problem has a place; what a variable holds is never
// shown.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/bad/*.yaml", "testdata/good/*.yaml", "reference.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatalf("%s: %v, %v", pattern, files, err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	const hidden = "jI5yH0pTq8"
	lookup := func(name string) (string, bool) { return hidden + "\n: [" + hidden, name != "NOPE" }
	dir := f.TempDir()
	path := filepath.Join(dir, "gateway.yaml")
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse(path, data, lookup)
		if err == nil {
			if len(c.Routes) == 0 {
				t.Error("accepted without a route")
			}
			for i, rt := range c.Routes {
				if rt.Pos.Line == 0 || rt.Name == "" || len(rt.Upstream) == 0 {
					t.Errorf("route %d = %+v, want a position, a name and an upstream", i, rt)
				}
			}
			for _, w := range c.Warnings {
				if strings.Contains(w.Error(), hidden) && !strings.Contains(string(data), hidden) {
					t.Errorf("a warning shows a variable: %v", w)
				}
			}
			return
		}
		problems, ok := err.(Problems)
		if !ok || len(problems) == 0 || c != nil {
			t.Fatalf("Parse = %v, %#v, want Problems", c, err)
		}
		lines := strings.Count(string(data), "\n") + 1
		for _, p := range problems {
			if p.Pos.File != path || p.Text == "" || p.Pos.Line > lines || (p.Pos.Line == 0) != (p.Pos.Column == 0) {
				t.Errorf("problem %+v in a file of %d lines", p, lines)
			}
		}
		if strings.Contains(err.Error(), hidden) && !strings.Contains(string(data), hidden) {
			t.Errorf("an error shows a variable: %v", err)
		}
	})
}

// An eighth of what a file may have shows what grows faster than the file.
const hostileBytes = maxBytes / 8

// Each of these is made to cost more than its size.
func TestHostileFiles(t *testing.T) {
	fill := func(s string) string { return strings.Repeat(s, hostileBytes/len(s)-1) }
	var laughs strings.Builder
	laughs.WriteString("a: &a [x,x,x,x,x,x,x,x,x]\n")
	for c := 'b'; c <= 'z'; c++ {
		laughs.WriteString(strings.ReplaceAll(strings.ReplaceAll("C: &C [*P,*P,*P,*P,*P,*P,*P,*P,*P]\n", "C", string(c)), "P", string(c-1)))
	}
	for name, text := range map[string]string{
		"billion laughs":  laughs.String(),
		"lists":           fill("["),
		"mappings":        fill("{"),
		"mappings in":     fill("{a: "),
		"block lists":     fill("- "),
		"complex keys":    fill("? "),
		"nested":          "a: " + strings.Repeat("[", 9000) + strings.Repeat("]", 9000),
		"anchors":         fill("&a "),
		"tags":            fill("!a "),
		"comments":        fill("#\n"),
		"documents":       fill("---\n"),
		"unknown keys":    unknownKeys(),
		"one long key":    strings.Repeat("k", hostileBytes-10) + ": 1",
		"one long value":  "data_dir: " + strings.Repeat("k", hostileBytes-20),
		"quotes":          fill("\""),
		"variables":       "data_dir: \"" + strings.Repeat("${A}", (hostileBytes-20)/4) + "\"",
		"methods":         "routes: [{methods: [" + strings.Repeat("A,", (hostileBytes-40)/2) + "]}]",
		"routes":          "routes: [" + strings.Repeat("{},", (hostileBytes-20)/3) + "]",
		"header names":    "identity: {headers: {" + strings.Repeat("a: b, ", (hostileBytes-40)/6) + "}}",
		"indented lines":  fill("a:\n "),
		"question dashes": fill("?-"),
		"colons":          fill(": "),
	} {
		t.Run(name, func(t *testing.T) {
			if len(text) > hostileBytes {
				t.Fatalf("%d bytes", len(text))
			}
			began := time.Now()
			if _, err := parse(t, text); err == nil {
				t.Error("accepted")
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("took %v", took)
			} else if testing.Verbose() {
				t.Log(took)
			}
		})
	}
}

func unknownKeys() string {
	var b strings.Builder
	for i := 0; b.Len() < hostileBytes-40; i++ {
		b.WriteString("k" + strings.Repeat("x", i%20) + string(rune('a'+i%26)) + strings.Repeat("y", i%7) + ": 1\n")
	}
	return b.String()
}
