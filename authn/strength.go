package authn

import (
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"sync"
	"unicode"

	"github.com/ccojocar/zxcvbn-go/data"
)

// passwordStrength scores a password from 0 to 4, as zxcvbn does: the bits of
// the cheapest way to put it together from words, names, leaked passwords,
// keyboard walks, sequences, repetitions and dates, and how long a fast
// attacker needs for as many guesses. inputs are words that an attacker knows
// of the user.
//
// The word lists are those of zxcvbn-go, read when the first password is
// scored. Its code is not used, because it reads them when the process starts
// (a tenth of a second and 18 MB for every command), takes seconds for a
// password full of l33t characters, which is enough to stop a gateway by
// registering, and counts bytes for characters.
func passwordStrength(password string, inputs ...string) int {
	bits := passwordBits([]rune(password), inputs)
	// Half of the guesses, at a hundred times a hundred a second.
	seconds := math.Pow(2, bits) / 2 / 1e4
	score := 0
	for _, limit := range []float64{1e2, 1e4, 1e6, 1e8} {
		if seconds >= limit {
			score++
		}
	}
	return score
}

// piece is a guessable part: the characters from to to, to excluded.
type piece struct {
	from, to int
	bits     float64
}

func passwordBits(text []rune, inputs []string) float64 {
	if n, ok := repeatedBlock(text); ok {
		return passwordBits(text[:n], inputs) + math.Log2(float64(len(text)/n))
	}
	lower := make([]rune, len(text))
	for i, r := range text {
		lower[i] = unicode.ToLower(r)
	}
	pieces := slices.Concat(
		words(text, lower, 0, inputs),
		l33t(text, lower, inputs),
		repetitions(text), sequences(text), walks(text), dates(text),
	)
	// The cheapest way to the k-th character, for every k.
	each := math.Log2(alphabet(text))
	best := make([]float64, len(text)+1)
	slices.SortFunc(pieces, func(a, b piece) int { return a.to - b.to })
	for k := 1; k <= len(text); k++ {
		best[k] = best[k-1] + each
		for len(pieces) > 0 && pieces[0].to == k {
			best[k] = min(best[k], best[pieces[0].from]+pieces[0].bits)
			pieces = pieces[1:]
		}
	}
	return best[len(text)]
}

// alphabet is how many characters have to be tried in each place.
func alphabet(text []rune) float64 {
	var lower, upper, digit, symbol, other float64
	for _, r := range text {
		switch {
		case 'a' <= r && r <= 'z':
			lower = 26
		case 'A' <= r && r <= 'Z':
			upper = 26
		case '0' <= r && r <= '9':
			digit = 10
		case r < 0x80:
			symbol = 33
		default:
			other = 100
		}
	}
	return max(lower+upper+digit+symbol+other, 1)
}

// repeatedBlock finds the shortest block that the whole text repeats.
func repeatedBlock(text []rune) (length int, ok bool) {
	for n := 1; n <= len(text)/2; n++ {
		if len(text)%n == 0 && slices.Equal(text[n:], text[:len(text)-n]) {
			return n, true
		}
	}
	return 0, false
}

// dictionary maps the hash of a word to its rank in the list that has it
// furthest in front. Hashes instead of words keep 85,000 of them in 2 MB.
type dictionary struct {
	seed  maphash.Seed
	ranks map[uint64]uint16
}

const longestWord = 22

var knownWords = sync.OnceValue(func() *dictionary {
	d := &dictionary{maphash.MakeSeed(), make(map[uint64]uint16, 90000)}
	for _, name := range []string{"Passwords", "English", "FemaleNames", "MaleNames", "Surnames"} {
		list, err := data.Asset("data/" + name + ".json")
		if err != nil {
			panic(err) // it is part of the program
		}
		// Every second string between quotes is a word; none has an escape.
		// The first is the name of the list.
		parts := strings.Split(string(list), `"`)
		for i := 3; i < len(parts); i += 2 {
			h := maphash.String(d.seed, parts[i])
			if rank, ok := d.ranks[h]; !ok || int(rank) > i/2 {
				d.ranks[h] = uint16(min(i/2, math.MaxUint16))
			}
		}
	}
	return d
})

// words finds what is in a dictionary or among the inputs.
func words(text, lower []rune, extra float64, inputs []string) (found []piece) {
	known := knownWords()
	for _, input := range inputWords(inputs) {
		n := len(input)
		for i := 0; i+n <= len(lower); i++ {
			if slices.Equal(lower[i:i+n], input) {
				found = append(found, piece{i, i + n, upperBits(text[i:i+n]) + extra})
			}
		}
	}
	var buf []byte
	for i := range lower {
		buf = buf[:0]
		for j := i; j < len(lower) && j < i+longestWord && lower[j] < 0x80; j++ {
			buf = append(buf, byte(lower[j]))
			if rank, ok := known.ranks[maphash.Bytes(known.seed, buf)]; ok {
				bits := math.Log2(float64(rank)) + upperBits(text[i:j+1]) + extra
				found = append(found, piece{i, j + 1, bits})
			}
		}
	}
	return found
}

// inputWords are the inputs and the words in them, in lower case.
func inputWords(inputs []string) (found [][]rune) {
	for _, input := range inputs {
		input = strings.ToLower(input)
		parts := strings.FieldsFunc(input, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
		for _, w := range append(parts, input) {
			if r := []rune(w); len(r) > 2 {
				found = append(found, r)
			}
		}
	}
	return found
}

// upperBits is what capitals in a word are worth.
func upperBits(word []rune) float64 {
	upper, lower := 0, 0
	for _, r := range word {
		if unicode.IsUpper(r) {
			upper++
		} else if unicode.IsLower(r) {
			lower++
		}
	}
	switch {
	case upper == 0:
		return 0
	case lower == 0, upper == 1 && (unicode.IsUpper(word[0]) || unicode.IsUpper(word[len(word)-1])):
		return 1
	}
	return choices(upper, lower)
}

// choices is the bits of choosing which of a+b places are special, when a or
// fewer are.
func choices(a, b int) float64 {
	sum, c := 0.0, 1.0 // c is a+b over k
	for k := range min(a, b) + 1 {
		sum += c
		c = c * float64(a+b-k) / float64(k+1)
	}
	return max(1, math.Log2(sum))
}

// leet says which letters a character may stand for. Where there are two, they
// are tried one after the other for the whole text, so that the work is
// bounded: eight readings.
var leet = map[rune][2]rune{
	'4': {'a', 'a'}, '@': {'a', 'a'}, '8': {'b', 'b'}, '(': {'c', 'c'}, '{': {'c', 'c'},
	'[': {'c', 'c'}, '<': {'c', 'c'}, '3': {'e', 'e'}, '6': {'g', 'g'}, '9': {'g', 'g'},
	'!': {'i', 'i'}, '0': {'o', 'o'}, '$': {'s', 's'}, '5': {'s', 's'}, '+': {'t', 't'},
	'%': {'x', 'x'}, '2': {'z', 'z'}, '1': {'i', 'l'}, '|': {'i', 'l'}, '7': {'t', 'l'},
}

func l33t(text, lower []rune, inputs []string) (found []piece) {
	tried := [][]rune{lower}
	for reading := range 8 {
		plain := slices.Clone(lower)
		for i, r := range lower {
			which := reading & 1
			switch r {
			case '|':
				which = reading >> 1 & 1
			case '7':
				which = reading >> 2 & 1
			}
			if letters, ok := leet[r]; ok {
				plain[i] = letters[which]
			}
		}
		if slices.ContainsFunc(tried, func(t []rune) bool { return slices.Equal(t, plain) }) {
			continue
		}
		tried = append(tried, plain)
		for _, p := range words(text, plain, 0, inputs) {
			changed := 0
			for i := p.from; i < p.to; i++ {
				if plain[i] != lower[i] {
					changed++
				}
			}
			if changed > 0 {
				p.bits += choices(changed, p.to-p.from-changed)
				found = append(found, p)
			}
		}
	}
	return found
}
