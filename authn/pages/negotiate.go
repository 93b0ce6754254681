package pages

import (
	"net/http"
	"slices"
	"strings"
)

// maxRanges bounds how many languages a request can ask for.
const maxRanges = 32

// languageFor is the language that a request prefers (RFC 9110, section
// 12.5.4), found by lookup (RFC 4647, section 3.4): who asks for de-AT is
// content with de. The first of the set is for everybody else.
func (s *Set) languageFor(r *http.Request) *language {
	ranges := preferred(strings.Join(r.Header["Accept-Language"], ","))
	for _, want := range ranges {
		if want == "*" {
			break // whatever there is
		}
		for want != "" {
			for _, l := range s.languages {
				if strings.EqualFold(l.tag, want) {
					return l
				}
			}
			want = shorter(want)
		}
	}
	return s.languages[0]
}

// shorter is a language range without its last part, and without a single
// letter that then ends it.
func shorter(tag string) string {
	i := strings.LastIndexByte(tag, '-')
	if i < 0 {
		return ""
	}
	tag = tag[:i]
	if i = len(tag) - 2; i >= 0 && tag[i] == '-' {
		tag = tag[:i]
	}
	return tag
}

// preferred are the language ranges of a field value, the most wanted first.
// What is malformed or not wanted (q=0) is left out.
func preferred(value string) []string {
	type weighted struct {
		tag string
		q   int // thousandths
	}
	var found []weighted
	for item := range strings.SplitSeq(value, ",") {
		if len(found) == maxRanges {
			break
		}
		tag, param, has := strings.Cut(item, ";")
		tag = strings.Trim(tag, " \t")
		q := 1000
		if has {
			q = weight(param)
		}
		if q > 0 && isRange(tag) {
			found = append(found, weighted{tag, q})
		}
	}
	slices.SortStableFunc(found, func(a, b weighted) int { return b.q - a.q })
	tags := make([]string, len(found))
	for i, w := range found {
		tags[i] = w.tag
	}
	return tags
}

// weight reads "q=0.5" in thousandths (RFC 9110, section 12.4.2). What is no
// weight is 0.
func weight(param string) int {
	param = strings.Trim(param, " \t")
	if len(param) < 3 || len(param) > 7 || param[0] != 'q' && param[0] != 'Q' || param[1] != '=' {
		return 0
	}
	whole, fraction, dot := strings.Cut(param[2:], ".")
	if whole != "0" && whole != "1" || dot && len(fraction) > 3 {
		return 0
	}
	q := 0
	for i := range 3 {
		q *= 10
		if i < len(fraction) {
			if fraction[i] < '0' || fraction[i] > '9' {
				return 0
			}
			q += int(fraction[i] - '0')
		}
	}
	if whole == "1" {
		if q > 0 {
			return 0
		}
		return 1000
	}
	return q
}

// isRange tells basic language ranges (RFC 4647, section 2.1).
func isRange(tag string) bool {
	if tag == "*" {
		return true
	}
	if len(tag) > 64 {
		return false
	}
	for i, part := range strings.Split(tag, "-") {
		if len(part) < 1 || len(part) > 8 {
			return false
		}
		for _, c := range []byte(part) {
			letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
			if !letter && (i == 0 || c < '0' || c > '9') {
				return false
			}
		}
	}
	return true
}
