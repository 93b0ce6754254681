package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

const (
	maxBytes = 1 << 20
	maxDepth = 32
	maxItems = 20_000 // of one list or mapping
)

// document parses data into its one mapping. It returns nil after recording
// why there is none.
func (d *decoder) document(data []byte) *yaml.Node {
	if p := checkText(data); p != nil {
		p.Pos.File = d.file
		d.problems = append(d.problems, *p)
		return nil
	}
	root, second, err := parseYAML(data)
	switch {
	case err != nil:
		d.problems = append(d.problems, d.syntaxProblem(data, err))
		return nil
	case root == nil || len(root.Content) == 0 || isEmpty(root.Content[0]):
		d.report(Position{}, "the file is empty", "the least that works is one route with a path and an upstream")
		return nil
	}
	if second != nil {
		d.report(d.positionOf(second), "a second document begins here: want one", "remove the line \"---\" and what follows it")
	}
	top := root.Content[0]
	d.checkNodes(top, 0)
	if top.Kind != yaml.MappingNode {
		d.report(d.positionOf(top), "want keys with values, got "+kindOf(top), "")
		return nil
	}
	d.top = top
	return top
}

func isEmpty(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && isNull(n) && n.Anchor == "" && n.Style&yaml.TaggedStyle == 0
}

// checkText refuses what no editor shows: bytes that are not UTF-8, control
// characters, line breaks that only YAML knows, and marks that turn the
// direction of the text.
func checkText(data []byte) *Problem {
	if len(data) > maxBytes {
		return &Problem{Text: "the file is too large: want at most 1 MiB"}
	}
	if bytes.HasPrefix(data, []byte("\xef\xbb\xbf")) || bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff")) {
		return &Problem{Pos: Position{Line: 1, Column: 1}, Text: "the file begins with a byte order mark: want plain UTF-8"}
	}
	line, column := 1, 1
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		text := ""
		switch {
		case r == utf8.RuneError && size == 1:
			text = fmt.Sprintf("byte %#02x is not valid UTF-8", data[i])
		case r == '\r' && (i+1 == len(data) || data[i+1] != '\n'):
			text = "carriage return without line feed"
		case r < ' ' && r != '\t' && r != '\n' && r != '\r', 0x7f <= r && r <= 0x9f:
			text = fmt.Sprintf("control character %U", r)
		case r == 0x2028 || r == 0x2029 || r == 0xfeff,
			0x202a <= r && r <= 0x202e, 0x2066 <= r && r <= 0x2069:
			text = fmt.Sprintf("invisible character %U", r)
		}
		if text != "" {
			return &Problem{Pos: Position{Line: line, Column: column}, Text: text}
		}
		column++
		if r == '\n' {
			line, column = line+1, 1
		}
		i += size
	}
	return nil
}

// parseYAML returns the first document and, if there is one, the second. The
// library panics on some hostile input; here that is an error like the others.
func parseYAML(data []byte) (first, second *yaml.Node, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = errors.New("yaml: cannot be read as YAML")
		}
	}()
	dec := yaml.NewDecoder(bytes.NewReader(data))
	first, second = new(yaml.Node), new(yaml.Node)
	if err = dec.Decode(first); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil, nil
		}
		return nil, nil, err
	}
	if err = dec.Decode(second); err != nil {
		if errors.Is(err, io.EOF) {
			return first, nil, nil
		}
		return nil, nil, err
	}
	return first, second, nil
}

// syntaxProblem retells the library's error. Its line number is that of the
// section around the mistake, counted from 0 or from 1; the line where the
// same error first appears is looked for instead.
func (d *decoder) syntaxProblem(data []byte, err error) Problem {
	lines := bytes.SplitAfter(data, []byte("\n"))
	low, high := 1, len(lines)
	for low < high {
		mid := (low + high) / 2
		_, _, e := parseYAML(bytes.Join(lines[:mid], nil))
		if e != nil && e.Error() == err.Error() {
			high = mid
		} else {
			low = mid + 1
		}
	}
	for low > 1 && len(bytes.TrimSpace(lines[low-1])) == 0 {
		low-- // the error of an unclosed bracket is found behind the last line
	}
	line := lines[low-1]
	indent := len(line) - len(bytes.TrimLeft(line, " \t\r\n"))
	p := Problem{Pos: Position{File: d.file, Line: low, Column: 1}, Text: retell(err)}
	if indent < len(line) {
		p.Pos.Column = indent + 1
	}
	if tab := bytes.IndexByte(line[:indent], '\t'); tab >= 0 {
		p.Pos.Column = tab + 1
		p.Text = "a tab indents this line: want spaces"
	} else if bytes.Contains(line, []byte("${")) {
		p.Hint = "between braces or brackets, write a value with ${NAME} in quotes"
	}
	return p
}

// retell keeps the library's own words unless they may quote the file, which
// could be a secret.
func retell(err error) string {
	s := strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(s, "line "); ok {
		if _, after, ok := strings.Cut(rest, ": "); ok {
			s = after
		}
	}
	switch {
	case strings.HasPrefix(s, "unknown anchor"):
		return "anchors and aliases (& and *) are not supported"
	case strings.HasPrefix(s, "mapping values are not allowed"):
		return "not valid YAML: write a value with a colon at its end or before a blank in quotes, and begin keys of one section in one column"
	case strings.HasPrefix(s, "found character that cannot start any token"):
		return "not valid YAML: a value that begins with this character is written in quotes"
	case strings.HasPrefix(s, "cannot decode"):
		return "not valid YAML"
	}
	return "not valid YAML: " + s
}

// checkNodes refuses, wherever it stands, what makes a file mean something
// else than it shows: anchors, aliases, merge keys, tags, keys given twice.
func (d *decoder) checkNodes(n *yaml.Node, depth int) {
	if depth > maxDepth {
		d.report(d.positionOf(n), fmt.Sprintf("nested too deep: want at most %d levels", maxDepth), "")
		return
	}
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		d.report(d.positionOf(n), "anchors and aliases (& and *) are not supported", "")
	case n.Style&yaml.TaggedStyle != 0:
		d.report(d.positionOf(n), "tags (!) are not supported", "")
	}
	if n.Kind != yaml.MappingNode {
		for _, item := range n.Content {
			d.checkNodes(item, depth+1)
		}
		return
	}
	if len(n.Content) > 2*maxItems {
		d.report(d.positionOf(n), fmt.Sprintf("want at most %d keys in one mapping", maxItems), "")
		n.Content = n.Content[:2*maxItems]
	}
	seen := make(map[string]*yaml.Node, len(n.Content)/2)
	kept := n.Content[:0]
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		first, twice := seen[key.Value]
		switch {
		case key.Kind != yaml.ScalarNode:
			d.report(d.positionOf(key), "a key must be a word, got "+kindOf(key), "")
		case key.Anchor != "":
			d.report(d.positionOf(key), "anchors and aliases (& and *) are not supported", "")
		case key.Style&yaml.TaggedStyle != 0:
			d.report(d.positionOf(key), "tags (!) are not supported", "")
		case key.Value == "<<" && key.Style == 0:
			d.report(d.positionOf(key), "merge keys (<<) are not supported", "")
		case twice:
			d.report(d.positionOf(key), fmt.Sprintf("duplicate key %q", shorten(key.Value)),
				fmt.Sprintf("the first is in line %d", first.Line))
		default:
			seen[key.Value] = key
		}
		d.checkNodes(n.Content[i+1], depth+1)
		if !twice {
			kept = append(kept, key, n.Content[i+1])
		}
	}
	n.Content = kept
}

func kindOf(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.AliasNode:
		return "an alias"
	case n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		return "text"
	case isNull(n):
		return "nothing"
	case isBoolWord(n.Value):
		return "a boolean"
	case isNumberLike(n.Value):
		return "a number"
	}
	return "text"
}
