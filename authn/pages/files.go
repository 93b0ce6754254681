package pages

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"gatehouse/config"
)

//go:embed builtin
var builtin embed.FS

// maxFile bounds a file of templates_dir, in bytes.
const maxFile = 256 << 10

const (
	layout     = "layout.html"
	parts      = "parts.html"
	stylesheet = "style.css"
	script     = "script.js"
)

// A file is one that pages are made of.
type file struct {
	name string
	path string // for messages
	text string
	own  bool // of templates_dir
}

// names are the files that can be replaced, but for the languages.
var names = []string{layout, parts, "login.html", "register.html", "account.html", "continue.html", "error.html", stylesheet, script}

// languageFile is named as its language (RFC 5646): de.txt, pt-BR.txt.
var languageFile = regexp.MustCompile(`^([a-z]{2,3}(?:-[A-Za-z0-9]{2,8})*)\.txt$`)

// readFiles reads the built-in files, and over them those of templates_dir.
func readFiles(cfg *config.Config) (map[string]file, config.Problems) {
	files := map[string]file{}
	entries, err := builtin.ReadDir("builtin")
	if err != nil {
		panic(err) // it is part of the program
	}
	for _, entry := range entries {
		text, err := builtin.ReadFile("builtin/" + entry.Name())
		if err != nil {
			panic(err)
		}
		files[entry.Name()] = file{name: entry.Name(), path: entry.Name(), text: string(text)}
	}
	if cfg.Endpoints.TemplatesDir == "" {
		return files, nil
	}
	own, problems := readFolder(cfg)
	maps.Copy(files, own)
	return files, problems
}

// readFolder reads templates_dir. Symbolic links are followed within it, as
// Kubernetes has them in a ConfigMap, and never out of it.
func readFolder(cfg *config.Config) (map[string]file, config.Problems) {
	const key = "endpoints.templates_dir"
	folder := cfg.Endpoints.TemplatesDir
	unreadable := func(err error) config.Problems {
		return config.Problems{cfg.Problem(key, "%s %s: %v", key, cfg.Quote(key, folder), withoutPath(err))}
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, unreadable(err)
	}
	defer root.Close()
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, unreadable(err)
	}
	files := map[string]file{}
	var problems config.Problems
	bad := func(name, text, hint string) {
		problems = append(problems, config.Problem{Pos: config.Position{File: filepath.Join(folder, name)}, Text: text, Hint: hint})
	}
	for _, entry := range entries {
		name := entry.Name()
		if besides(name) {
			continue
		}
		if !slices.Contains(names, name) && !languageFile.MatchString(name) {
			hint := config.DidYouMean(name, names)
			if hint == "" {
				hint = "want one of " + strings.Join(names, ", ") + ", or a language such as fr.txt"
			}
			bad(name, fmt.Sprintf("unknown file %q in %s", name, key), hint)
			continue
		}
		text, err := readFile(root, name)
		if err != nil {
			bad(name, withoutPath(err).Error(), "")
			continue
		}
		files[name] = file{name: name, path: filepath.Join(folder, name), text: text, own: true}
	}
	return files, problems
}

// besides are what editors and Kubernetes leave in a folder.
func besides(name string) bool {
	return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "#") || strings.HasSuffix(name, "~")
}

func readFile(root *os.Root, name string) (string, error) {
	info, err := root.Stat(name)
	switch {
	case err != nil:
		return "", err
	case !info.Mode().IsRegular():
		return "", errors.New("want a regular file") // opening another may take for ever
	}
	f, err := root.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return "", err
	case len(data) > maxFile:
		return "", fmt.Errorf("the file is too large: want at most %d KiB", maxFile>>10)
	}
	return string(data), nil
}

func withoutPath(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

// Files are the absolute paths of what templates_dir holds, so that a change in
// any of them is a reload.
func Files(cfg *config.Config) []string {
	folder := cfg.Endpoints.TemplatesDir
	if folder == "" {
		return nil
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil // New will tell
	}
	var found []string
	for _, entry := range entries {
		if !besides(entry.Name()) {
			found = append(found, filepath.Join(folder, entry.Name()))
		}
	}
	return found
}
