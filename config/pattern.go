package config

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// checkPath says what is wrong with a route's path, "" if nothing is.
//
// Paths are written as people read them, decoded. Whatever could be read in
// two ways is refused here, because requests are matched in one form only: a
// route "/a%2Fb" or "/a;b" would never match, or match what was not meant.
func checkPath(path string, exact bool) (problem, hint string) {
	if !strings.HasPrefix(path, "/") {
		return "want a path that begins with /", ""
	}
	if len(path) > 2048 {
		return "want at most 2048 bytes", ""
	}
	if path == "/" {
		return "", ""
	}
	names := map[string]bool{}
	segments := strings.Split(strings.TrimSuffix(path[1:], "/"), "/")
	for i, segment := range segments {
		switch {
		case segment == "":
			return "want no empty segment (//)", ""
		case segment == "." || segment == "..":
			return "want no dot segments", ""
		case segment == "*" || segment == "**":
			return "want no *", "a path covers all below it; a single segment is {name}"
		}
		if strings.ContainsAny(segment, "{}") {
			if problem, hint := checkWildcard(segment, names); problem != "" {
				return problem, hint
			}
			if !strings.HasSuffix(segment, "...}") {
				continue
			}
			switch {
			case i < len(segments)-1 || strings.HasSuffix(path, "/"):
				return "want " + segment + " at the end", ""
			case exact:
				return "want no " + segment + " together with exact", ""
			}
			continue
		}
		if problem, hint := checkLiteral(segment); problem != "" {
			return problem, hint
		}
	}
	return "", ""
}

func checkWildcard(segment string, names map[string]bool) (problem, hint string) {
	name, ok := strings.CutPrefix(segment, "{")
	name, closed := strings.CutSuffix(name, "}")
	if !ok || !closed || strings.ContainsAny(name, "{}") {
		return "want a wildcard that is a whole segment, such as {name}", ""
	}
	if name == "$" {
		return "want no {$}", "exact: true covers only the path itself"
	}
	name = strings.TrimSuffix(name, "...")
	if !validVariable(name) {
		return "want a wildcard named by letters, digits and _, such as {name}", ""
	}
	if names[name] {
		return "want different names for the wildcards", ""
	}
	names[name] = true
	return "", ""
}

func checkLiteral(segment string) (problem, hint string) {
	switch {
	case strings.Contains(segment, "%"):
		return "want the path decoded, without %", ""
	case strings.ContainsAny(segment, `?#`):
		return "want a path only, without query or fragment", ""
	case strings.ContainsAny(segment, `\;`):
		return `want no \ and no ; in a path`, "apps read them in different ways"
	case strings.HasSuffix(segment, "."):
		return "want no segment that ends with a dot", ""
	case !utf8.ValidString(segment):
		return "want valid UTF-8", ""
	}
	for _, r := range segment {
		if unicode.IsSpace(r) || !unicode.IsGraphic(r) {
			return "want no blanks and no invisible characters", ""
		}
	}
	return "", ""
}

// literalPrefix is the part of a path before its first wildcard.
func literalPrefix(path string) string {
	if i := strings.Index(path, "/{"); i >= 0 {
		path = path[:i]
	}
	return strings.TrimSuffix(path, "/")
}
