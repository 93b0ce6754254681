package main

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"gatehouse/config"
)

// An output is how a command answers: in text for people or, with --json, in
// JSON for programs.
type output struct {
	app  *app
	json bool
}

// outputOf gives cmd its --json flag.
func (a *app) outputOf(cmd *cobra.Command) *output {
	o := &output{app: a}
	cmd.Flags().BoolVar(&o.json, "json", false, "print JSON")
	return o
}

// print writes v as JSON, or what text writes.
func (o *output) print(v any, text func(w io.Writer)) error {
	if o.json {
		return o.app.printJSON(v)
	}
	var b bytes.Buffer
	text(&b)
	_, err := o.app.stdout.Write(b.Bytes())
	return err
}

// printable is s with everything escaped that a terminal would act upon or not
// show: a user's name is whatever the user chose, "\x1b[2J" included.
func printable(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case strconv.IsPrint(r):
			b.WriteRune(r)
		default:
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
		s = s[n:]
	}
	return b.String()
}

// printableJSON escapes in JSON what encoding/json leaves as it is: DEL, the
// C1 controls, and characters that turn the direction of a line or are not
// shown. All of them can only stand inside of strings.
func printableJSON(doc []byte) []byte {
	var b []byte
	for _, r := range string(doc) {
		switch {
		case r == '\n' || strconv.IsPrint(r):
			b = utf8.AppendRune(b, r)
		case r > 0xffff: // a pair of surrogates, RFC 8259, section 7
			r -= 0x10000
			b = fmt.Appendf(b, `\u%04x\u%04x`, 0xd800+(r>>10), 0xdc00+(r&0x3ff))
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
	}
	return b
}

// table writes rows in aligned columns. Cells are made printable, and empty
// ones show as "-", so that every line has the same number of words to count.
func table(w io.Writer, head []string, rows [][]string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{head}, rows...) {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = dash(printable(cell))
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	_ = t.Flush() // w is a buffer; the error of the last write is print's
}

// fields writes one "name: value" line each, values aligned.
func fields(w io.Writer, pairs ...string) {
	width := 0
	for i := 0; i < len(pairs); i += 2 {
		width = max(width, utf8.RuneCountInString(pairs[i]))
	}
	for i := 0; i < len(pairs); i += 2 {
		fmt.Fprintf(w, "%-*s  %s\n", width+1, pairs[i]+":", dash(printable(pairs[i+1])))
	}
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// utc is t as every command prints it.
func utc(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// count is "1 route", "2 routes".
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return strconv.Itoa(n) + " " + thing + "s"
}

// notNil makes an empty list print as [] in JSON, not as null.
func notNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// A problemJSON is a config.Problem for programs.
type problemJSON struct {
	File   string `json:"file"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	Text   string `json:"text"`
	Hint   string `json:"hint,omitempty"`
}

func problemsJSON(ps []config.Problem) []problemJSON {
	out := make([]problemJSON, len(ps))
	for i, p := range ps {
		out[i] = problemJSON{p.Pos.File, p.Pos.Line, p.Pos.Column, p.Text, p.Hint}
	}
	return out
}

// printProblems writes problems, or warnings, as compilers do: position first.
func printProblems(w io.Writer, label string, ps []config.Problem) {
	for _, p := range ps {
		p.Text = label + p.Text
		for line := range strings.Lines(p.Error() + "\n") {
			fmt.Fprintln(w, printable(strings.TrimSuffix(line, "\n")))
		}
	}
}
