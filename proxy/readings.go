package proxy

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// A reading is a decoded path that some upstream might make of what is
// forwarded: `/%2561dmin;v=1` is one segment to a careful server, and /admin to
// one that decodes twice and cuts parameters. Where a reading falls under another
// route, that route's rules hold too.

// maxReadings bounds the work for one path. A path with more is refused.
const maxReadings = 100

// lenient are the liberties that servers were seen to take, one function each.
// Every combination and order of them is tried.
var lenient = []func(string) string{
	unescape,
	cutTail,
	cutParameters,
	func(s string) string { return strings.ReplaceAll(s, `\`, "/") },
	mergeSlashes,
	func(s string) string { return trimSegments(s, " ") },
	func(s string) string { return trimSegments(s, ". ") },
	latin1,
	norm.NFKC.String,
}

// readings returns the decoded path of loc and everything that lenient makes
// of it, the folding of case excepted: that is the table's part. One that no
// path may be is an error.
func readings(loc *location) ([]string, error) {
	first := unescape(loc.path)
	all := []string{first}
	if !loc.odd {
		return all, nil
	}
	known := map[string]bool{first: true}
	for i := 0; i < len(all); i++ {
		for _, take := range lenient {
			s := take(all[i])
			if s == "" || s[0] != '/' {
				s = "/" + s
			}
			if known[s] {
				continue
			}
			if len(all) == maxReadings {
				return nil, badPath("path can be read in too many ways")
			}
			if err := checkReading(s); err != nil {
				return nil, err
			}
			known[s] = true
			all = append(all, s)
		}
	}
	return all, nil
}

// cutTail drops what a second URL parser would not take for the path:
// `/admin%3f/public`, `/admin%23`.
func cutTail(s string) string {
	if i := strings.IndexAny(s, "#?"); i >= 0 {
		return s[:i]
	}
	return s
}

// cutParameters drops the parameters that Java servers see in a segment:
// `/admin;jsessionid=1/x`.
func cutParameters(s string) string {
	if !strings.Contains(s, ";") {
		return s
	}
	return eachSegment(s, func(segment string) string {
		segment, _, _ = strings.Cut(segment, ";")
		return segment
	})
}

func mergeSlashes(s string) string {
	if !strings.Contains(s, "//") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '/' || i == 0 || s[i-1] != '/' {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// trimSegments drops what Windows drops at the end of a name: `/admin./x`,
// `/admin%20`. Dot segments stay what they are.
func trimSegments(s, cutset string) string {
	return eachSegment(s, func(segment string) string {
		if segment == "." || segment == ".." {
			return segment
		}
		return strings.TrimRight(segment, cutset)
	})
}

// latin1 takes bytes that are no UTF-8 for ISO 8859-1.
func latin1(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		b.WriteRune(rune(s[i]))
	}
	return b.String()
}

func eachSegment(s string, change func(string) string) string {
	segments := strings.Split(s, "/")
	for i, segment := range segments {
		segments[i] = change(segment)
	}
	return strings.Join(segments, "/")
}

// fold is one spelling for all that any server could take for the same letters
// of another case. Upper case first: dotless ı and long ſ have ordinary capitals.
func fold(s string) string {
	plain := true
	for i := 0; i < len(s) && plain; i++ {
		plain = s[i] < utf8.RuneSelf && !('A' <= s[i] && s[i] <= 'Z')
	}
	if plain {
		return s
	}
	return strings.Map(func(r rune) rune {
		return unicode.ToLower(unicode.ToUpper(unicode.ToLower(r)))
	}, s)
}
