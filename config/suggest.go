package config

import (
	"fmt"
	"strings"
)

// didYouMean is the hint for a word that is close to one of the words wanted,
// or "".
func didYouMean(got string, wanted []string) string {
	if w := nearest(got, wanted); w != "" {
		return fmt.Sprintf("did you mean %q?", w)
	}
	return ""
}

// DidYouMean is the hint for a name that is close to one of those wanted, or "".
func DidYouMean(got string, wanted []string) string { return didYouMean(got, wanted) }

// nearest is the wanted word that got was probably meant to be. "publicUrl",
// "public-url" and "pubic_url" all mean "public_url".
func nearest(got string, wanted []string) string {
	a := fold(got)
	if len(a) > 40 {
		return ""
	}
	best, least := "", max(len(a)/3, 1)+1
	for _, w := range wanted {
		b := fold(w)
		if d := distance(a, b); d < least {
			best, least = w, d
		}
	}
	return best
}

func fold(s string) string {
	return strings.NewReplacer("_", "", "-", "", " ", "").Replace(strings.ToLower(s))
}

// distance counts the insertions, deletions, replacements and swaps of
// neighbours that lead from a to b (restricted Damerau-Levenshtein).
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(a)][len(b)]
}

// words joins what was wanted: a, b or c.
func words(list []string) string {
	if len(list) < 2 {
		return strings.Join(list, "")
	}
	last := len(list) - 1
	return strings.Join(list[:last], ", ") + " or " + list[last]
}
