package config

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// environment is what the files below testdata may refer to.
func environment(name string) (string, bool) {
	v, ok := map[string]string{
		"PORT":     "8081",
		"WORD":     "expanded-value",
		"EMPTY":    "",
		"ON":       "true",
		"SECRET":   "from-the-environment-8Zq2mXbR9tLw4ZsY",
		"SAMPLE":   "your-super-secret-jwt-token-with-at-least-32-characters-long",
		"POSTGRES": "postgres://u:expanded-value@db/",
		"INJECT":   "closed\n  database: none # expanded-value",
	}[name]
	return v, ok
}

// Each file in testdata/bad has one kind of mistake. The comment at its top is
// every problem that is reported, and nothing else is.
func TestBad(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) < 60 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			must(t, err)
			var want []string
			for line := range bytes.Lines(data) {
				comment, ok := bytes.CutPrefix(line, []byte("# "))
				if !ok {
					break
				}
				want = append(want, strings.TrimSuffix(string(comment), "\n"))
			}
			_, err = Load(file, environment)
			got := messages(t, file, err)
			if got != strings.Join(want, "\n") {
				t.Errorf("Load(%s):\n%s\nwant:\n%s", file, got, strings.Join(want, "\n"))
			}
			for _, hidden := range []string{"hunter2", "expanded-value"} {
				if strings.Contains(got, hidden) {
					t.Errorf("the message shows %q", hidden)
				}
			}
		})
	}
}

// messages are the problems without the name of the file.
func messages(t *testing.T, file string, err error) string {
	t.Helper()
	problems, ok := err.(Problems)
	if !ok {
		t.Fatalf("Load(%s) = %v, want Problems", file, err)
	}
	var lines []string
	for _, p := range problems {
		if p.Pos.File != file {
			t.Errorf("problem %q is in file %q, want %q", p.Text, p.Pos.File, file)
		}
		at := "file"
		if p.Pos.Line > 0 {
			at = fmt.Sprintf("%d:%d", p.Pos.Line, p.Pos.Column)
		}
		lines = append(lines, at+": "+p.Text)
		if p.Hint != "" {
			lines = append(lines, "    "+p.Hint)
		}
	}
	return strings.Join(lines, "\n")
}
