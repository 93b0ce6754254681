package endpoints

import (
	"fmt"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxNext bounds a next, in bytes.
const maxNext = 2048

// SafeNext says whether a browser that is sent to next stays on this gateway,
// and how to write it in a Location field.
//
// What counts is the URL that a browser builds (WHATWG URL standard, section
// 4.4), which is not what url.Parse says: browsers drop tabs and line ends
// wherever they stand (`/<tab>/evil`), read a backslash as a slash (`/\evil`),
// and resolve dot segments (`/.//evil`). What only a server would read that way
// (`/%5cevil`, `/%2fevil`) is refused too: apps redirect by what they decoded.
func SafeNext(next string) (string, bool) {
	if next == "" || len(next) > maxNext || next[0] != '/' || !utf8.ValidString(next) {
		return "", false
	}
	var b strings.Builder
	for i := range len(next) {
		switch c := next[i]; {
		case c < ' ', c == 0x7f, c == '\\':
			return "", false
		case c == ' ', c > 0x7f:
			fmt.Fprintf(&b, "%%%02X", c)
		default:
			b.WriteByte(c)
		}
	}
	next = b.String()

	path, err := url.PathUnescape(pathOf(next))
	if err != nil || strings.HasPrefix(path, "//") || strings.ContainsFunc(path, hostile) {
		return "", false
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return "", false
		}
	}
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || u.Opaque != "" {
		return "", false
	}
	return next, true
}

func hostile(r rune) bool { return r == '\\' || unicode.IsControl(r) }

// pathOf cuts query and fragment off.
func pathOf(next string) string {
	if i := strings.IndexAny(next, "?#"); i >= 0 {
		return next[:i]
	}
	return next
}

// destination is where a browser goes once it is signed in: next if that is
// safe, else the root. The account page is the only one of our own that may
// follow: the others would ask to sign in again or answer in JSON.
func (e *Endpoints) destination(next string) string {
	to, ok := SafeNext(next)
	if !ok {
		return "/"
	}
	path, err := url.PathUnescape(pathOf(to))
	if err != nil {
		return "/"
	}
	s, own := e.paths[path]
	if (own || e.reserves(path)) && s.name != "account" {
		return "/"
	}
	return to
}
