package authn

import (
	"math"
	"strconv"
	"strings"
	"unicode"
)

// What passwordStrength finds beside words. All of it is linear in the length
// of the text, or nearly so.

// repetitions are runs of three and more of the same character.
func repetitions(text []rune) (found []piece) {
	for i := 0; i < len(text); {
		j := i + 1
		for j < len(text) && text[j] == text[i] {
			j++
		}
		if j-i > 2 {
			bits := math.Log2(alphabet(text[i:j]) * float64(j-i))
			found = append(found, piece{i, j, bits})
		}
		i = j
	}
	return found
}

// sequences are runs such as abc, 9876 and ZYX.
func sequences(text []rune) (found []piece) {
	for i := 0; i+1 < len(text); {
		step := text[i+1] - text[i]
		j := i + 1
		for j < len(text) && (step == 1 || step == -1) && text[j]-text[j-1] == step && sameClass(text[i], text[j]) {
			j++
		}
		if j-i < 3 {
			i++
			continue
		}
		bits := math.Log2(float64(j - i))
		switch first := text[i]; {
		case strings.ContainsRune("aA1", first):
			bits++
		case unicode.IsDigit(first):
			bits += math.Log2(10)
		default:
			bits += math.Log2(26)
		}
		if unicode.IsUpper(text[i]) {
			bits++
		}
		if step < 0 {
			bits++
		}
		found = append(found, piece{i, j, bits})
		i = j - 1
	}
	return found
}

func sameClass(a, b rune) bool {
	return unicode.IsLower(a) && unicode.IsLower(b) || unicode.IsUpper(a) && unicode.IsUpper(b) ||
		unicode.IsDigit(a) && unicode.IsDigit(b)
}

// A keyboard as rows, plain and with shift, each a little to the right of the
// one above it, or, for the keypad, straight below it.
type keyboard struct {
	plain, shifted []string
	slanted        bool
	keys, degree   float64 // how many keys, and how many neighbours one has on average
}

var keyboards = []keyboard{
	{[]string{"`1234567890-=", " qwertyuiop[]\\", " asdfghjkl;'", " zxcvbnm,./"},
		[]string{"~!@#$%^&*()_+", " QWERTYUIOP{}|", " ASDFGHJKL:\"", " ZXCVBNM<>?"}, true, 94, 4.6},
	{[]string{"`1234567890[]", " ',.pyfgcrl/=\\", " aoeuidhtns-", " ;qjkxbmwvz"},
		[]string{"~!@#$%^&*(){}", " \"<>PYFGCRL?+|", " AOEUIDHTNS_", " :QJKXBMWVZ"}, true, 94, 4.6},
	{[]string{"789", "456", "123", "0"}, nil, false, 10, 3},
}

// place is a key's row and column.
func (k keyboard) place(r rune) (row, column int, shift, ok bool) {
	if r == ' ' || r >= 0x80 {
		return 0, 0, false, false
	}
	for row, keys := range k.plain {
		if column = strings.IndexRune(keys, r); column >= 0 {
			return row, column, false, true
		}
	}
	for row, keys := range k.shifted {
		if column = strings.IndexRune(keys, r); column >= 0 {
			return row, column, true, true
		}
	}
	return 0, 0, false, false
}

// direction of one key from another, 0 if they are not neighbours.
func (k keyboard) direction(fromRow, fromColumn, toRow, toColumn int) int {
	rows, columns := toRow-fromRow, toColumn-fromColumn
	if k.slanted {
		switch [2]int{rows, columns} {
		case [2]int{0, -1}:
			return 1
		case [2]int{0, 1}:
			return 2
		case [2]int{-1, 0}:
			return 3
		case [2]int{-1, 1}:
			return 4
		case [2]int{1, -1}:
			return 5
		case [2]int{1, 0}:
			return 6
		}
		return 0
	}
	if rows == 0 && columns == 0 || max(rows, -rows, columns, -columns) > 1 {
		return 0
	}
	return 5 + 3*rows + columns
}

// walks are runs of three and more keys, each beside the one before.
func walks(text []rune) (found []piece) {
	for _, k := range keyboards {
		for i := 0; i < len(text); {
			j, turns, shifts := k.walk(text, i)
			if j-i < 3 {
				i++
				continue
			}
			found = append(found, piece{i, j, k.bits(j-i, turns, shifts)})
			i = j - 1
		}
	}
	return found
}

func (k keyboard) walk(text []rune, i int) (end, turns, shifts int) {
	row, column, shift, ok := k.place(text[i])
	if !ok {
		return i, 0, 0
	}
	last := 0
	for end = i; ; {
		if shift {
			shifts++
		}
		if end++; end == len(text) {
			return end, turns, shifts
		}
		nextRow, nextColumn, nextShift, ok := k.place(text[end])
		if !ok {
			return end, turns, shifts
		}
		d := k.direction(row, column, nextRow, nextColumn)
		if d == 0 {
			return end, turns, shifts
		}
		if d != last {
			turns++
		}
		row, column, shift, last = nextRow, nextColumn, nextShift, d
	}
}

// bits counts the walks of up to that length with up to as many turns.
func (k keyboard) bits(length, turns, shifts int) float64 {
	possible := 0.0
	for n := 2; n <= length; n++ {
		choose := 1.0 // n-1 over t-1
		for t := 1; t <= min(turns, n-1); t++ {
			possible += choose * k.keys * math.Pow(k.degree, float64(t))
			choose = choose * float64(n-t) / float64(t)
		}
	}
	bits := math.Log2(possible)
	if shifts > 0 {
		bits += choices(shifts, length-shifts)
	}
	return bits
}

const (
	yearBits      = 7.2      // 1900 to 2045
	dateBits      = 15.4     // 31 days, 12 months, 119 years
	separatorBits = 2        // one of four
	dateMarks     = `/-._ \` // between day, month and year
	firstYear     = 1900
	lastYear      = 2045
)

// dates are years and dates, with and without separators.
func dates(text []rune) (found []piece) {
	s := make([]byte, len(text))
	for i, r := range text {
		s[i] = byte(min(r, 0x7f))
	}
	for i := range s {
		for n := 4; n <= 10 && i+n <= len(s); n++ {
			part := string(s[i : i+n])
			switch {
			case n == 4 && isYear(part):
				found = append(found, piece{i, i + n, yearBits})
			case n <= 8 && isPlainDate(part):
				found = append(found, piece{i, i + n, dateBits})
			case n >= 6 && isMarkedDate(part):
				found = append(found, piece{i, i + n, dateBits + separatorBits})
			}
		}
	}
	return found
}

func isYear(s string) bool {
	y, err := strconv.ParseUint(s, 10, 16)
	return err == nil && len(s) == 4 && firstYear <= y && y <= lastYear
}

// isPlainDate is for 311299, 19991231, 1231999 and their like.
func isPlainDate(s string) bool {
	for _, year := range []int{2, 4} {
		rest := len(s) - year
		if rest < 2 || rest > 4 {
			continue
		}
		for day := max(1, rest-2); day <= min(2, rest-1); day++ {
			if isDate(s[:day], s[day:rest], s[rest:]) || isDate(s[year:year+day], s[year+day:], s[:year]) {
				return true
			}
		}
	}
	return false
}

// isMarkedDate is for 31/12/99, 1999-12-31 and their like.
func isMarkedDate(s string) bool {
	parts := strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(dateMarks, r) })
	return len(parts) == 3 && len(s) == len(parts[0])+len(parts[1])+len(parts[2])+2 &&
		(isDate(parts[0], parts[1], parts[2]) || isDate(parts[2], parts[1], parts[0]))
}

// isDate takes day and month in either order.
func isDate(a, b, year string) bool {
	day, err1 := strconv.ParseUint(a, 10, 8)
	month, err2 := strconv.ParseUint(b, 10, 8)
	_, err3 := strconv.ParseUint(year, 10, 16)
	if err1 != nil || err2 != nil || err3 != nil || len(a) > 2 || len(b) > 2 {
		return false
	}
	if month > 12 {
		day, month = month, day
	}
	return 1 <= day && day <= 31 && 1 <= month && month <= 12 && (len(year) == 2 || isYear(year))
}
