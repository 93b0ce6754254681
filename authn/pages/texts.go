package pages

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"gatehouse/config"
)

// A language has a text for every key.
type language struct {
	tag   string // BCP 47: "de"
	texts map[string]string
}

// fallback is the language of who wants none that there is.
const fallback = "en"

var (
	textKey     = regexp.MustCompile(`^[a-z][a-z0-9_.]*$`)
	placeholder = regexp.MustCompile(`\{[a-z]+\}`)
)

// readLanguages reads the language files and compares each with the English
// one that is built in. The first is English.
func readLanguages(files map[string]file) ([]*language, config.Problems) {
	original, err := builtin.ReadFile("builtin/" + fallback + ".txt")
	if err != nil {
		panic(err) // it is part of the program
	}
	want, _, problems := readTexts(file{name: "en.txt", path: "en.txt", text: string(original)})
	if len(problems) > 0 {
		return nil, problems
	}
	var found []*language
	for _, name := range slices.Sorted(maps.Keys(files)) {
		m := languageFile.FindStringSubmatch(name)
		if m == nil {
			continue
		}
		texts, lines, ps := readTexts(files[name])
		if len(ps) == 0 {
			ps = compare(files[name], want, texts, lines)
		}
		problems = append(problems, ps...)
		l := &language{m[1], texts}
		if l.tag == fallback {
			found = slices.Insert(found, 0, l)
		} else {
			found = append(found, l)
		}
	}
	return found, problems
}

// readTexts reads "key: text" lines. lines say where each key stands.
func readTexts(f file) (texts map[string]string, lines map[string]int, problems config.Problems) {
	texts, lines = map[string]string{}, map[string]int{}
	number := 0
	for line := range strings.Lines(f.text) {
		number++
		line = strings.TrimSpace(strings.TrimPrefix(line, "\ufeff"))
		if line == "" || line[0] == '#' {
			continue
		}
		key, text, ok := strings.Cut(line, ":")
		text = strings.TrimSpace(text)
		switch {
		case !ok || !textKey.MatchString(key):
			problems = append(problems, f.problem(number, `want a line such as "login.button: Sign in"`, ""))
		case text == "":
			problems = append(problems, f.problem(number, fmt.Sprintf("text %q is empty", key), ""))
		case lines[key] > 0:
			problems = append(problems, f.problem(number, fmt.Sprintf("text %q stands twice, first in line %d", key, lines[key]), ""))
		default:
			texts[key], lines[key] = text, number
		}
	}
	return texts, lines, problems
}

func (f file) problem(line int, text, hint string) config.Problem {
	return config.Problem{Pos: config.Position{File: f.path, Line: line}, Text: text, Hint: hint}
}

// compare finds the keys and placeholders in which a language differs from
// English.
func compare(f file, want, got map[string]string, lines map[string]int) (problems config.Problems) {
	known := slices.Sorted(maps.Keys(want))
	for _, key := range slices.SortedFunc(maps.Keys(got), func(a, b string) int { return lines[a] - lines[b] }) {
		english, ok := want[key]
		if !ok {
			problems = append(problems, f.problem(lines[key], fmt.Sprintf("unknown text %q", key), config.DidYouMean(key, known)))
			continue
		}
		if a, b := placeholders(got[key]), placeholders(english); !slices.Equal(a, b) {
			problems = append(problems, f.problem(lines[key],
				fmt.Sprintf("text %q has the placeholders [%s]: want [%s]", key, strings.Join(a, " "), strings.Join(b, " ")),
				fmt.Sprintf("in English it is %q", english)))
		}
	}
	var missing []string
	for _, key := range known {
		if _, ok := got[key]; !ok {
			missing = append(missing, key)
		}
	}
	if len(missing) > 0 {
		problems = append(problems, f.problem(0, "no text for "+strings.Join(missing, ", "), "a language has every key of en.txt"))
	}
	if d, ok := got["direction"]; ok && d != "ltr" && d != "rtl" {
		problems = append(problems, f.problem(lines["direction"], fmt.Sprintf("direction %q: want ltr or rtl", d), ""))
	}
	if m := got["time.months"]; m != "" && len(strings.Fields(m)) != 12 {
		problems = append(problems, f.problem(lines["time.months"], "time.months: want twelve words", ""))
	}
	return problems
}

// placeholders are the {names} of a text, each once, sorted.
func placeholders(text string) []string {
	found := placeholder.FindAllString(text, -1)
	slices.Sort(found)
	return slices.Compact(found)
}

// say is a text with its placeholders filled: values are names and values in
// turn. What is put in is not looked at again.
func (l *language) say(key string, values ...any) (string, error) {
	text, ok := l.texts[key]
	if !ok {
		return "", fmt.Errorf("there is no text %q", key)
	}
	if len(values)%2 != 0 {
		return "", fmt.Errorf("text %q: want names and values in turn", key)
	}
	return placeholder.ReplaceAllStringFunc(text, func(name string) string {
		for i := 0; i < len(values); i += 2 {
			if values[i] == name[1:len(name)-1] {
				return fmt.Sprint(values[i+1])
			}
		}
		return name
	}), nil
}

// must is say for keys of our own, which a test holds to be there.
func (l *language) must(key string, values ...any) string {
	text, err := l.say(key, values...)
	if err != nil {
		return key
	}
	return text
}
