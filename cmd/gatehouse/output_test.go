package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestPrintable(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"Ann Example", "Ann Example"},
		{"Žofie 山田 😀", "Žofie 山田 😀"},
		{"\x1b[2Jgone", `\x1b[2Jgone`},
		{"two\nlines\r\t", `two\nlines\r\t`},
		{"\u009b31m", `\u009b31m`}, // CSI in one character
		{"a\u202eb", `a\u202eb`},   // right-to-left override
		{"zero\u200bwidth", `zero\u200bwidth`},
		{"bad \xff byte", `bad \xff byte`},
		{"\x7f", `\x7f`},
	} {
		if got := printable(c.in); got != c.want {
			t.Errorf("printable(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

func FuzzPrintableJSON(f *testing.F) {
	f.Add("\u009b\u202e\U000e0001 😀\x7f\n")
	f.Fuzz(func(t *testing.T, s string) {
		doc, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var before, after string
		if err := json.Unmarshal(doc, &before); err != nil {
			t.Fatal(err)
		}
		out := printableJSON(doc)
		if err := json.Unmarshal(out, &after); err != nil || after != before {
			t.Errorf("printableJSON(%q) = %q, which says %q (%v)", doc, out, after, err)
		}
		if got := printable(string(out)); got != string(out) {
			t.Errorf("printableJSON(%q) = %q, which is not printable", doc, out)
		}
	})
}

func TestTable(t *testing.T) {
	var b strings.Builder
	table(&b, []string{"NAME", "ROLES"}, [][]string{{"ann", ""}, {"a\tlong\nname", "x"}})
	want := "NAME           ROLES\nann            -\na\\tlong\\nname  x\n"
	if b.String() != want {
		t.Errorf("table: %q, want %q", b.String(), want)
	}
}

func TestUTC(t *testing.T) {
	at := time.Date(2026, 5, 6, 7, 8, 9, 123, time.FixedZone("", 2*3600))
	if got := utc(at); got != "2026-05-06T05:08:09Z" {
		t.Errorf("utc(%v) = %q", at, got)
	}
	if got := utc(time.Time{}); got != "" {
		t.Errorf("utc of no time = %q, want nothing", got)
	}
}
