package main

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func TestParseRoles(t *testing.T) {
	for in, want := range map[string][]string{
		"":            nil,
		"  ":          nil,
		"admin":       {"admin"},
		" a , b ":     {"a", "b"},
		"a,b,a":       {"a", "b"},
		"team lead,x": {"team lead", "x"},
		"správce,管理者": {"správce", "管理者"},
	} {
		got, err := parseRoles(in)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("parseRoles(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
	for _, in := range []string{",", "a,", ",a", "a,,b", "a\nb", "a\x00", "a\u200bb", "\xff", strings.Repeat("x", 65)} {
		got, err := parseRoles(in)
		var usage usageError
		if !errors.As(err, &usage) {
			t.Errorf("parseRoles(%q) = %q, %v, want an error about usage", in, got, err)
		}
	}
}

func TestReadLine(t *testing.T) {
	for in, want := range map[string]string{
		"":                 "",
		"\n":               "",
		"one":              "one",
		"one\n":            "one",
		"one\r\ntwo\r\n":   "one",
		" one \ntwo":       " one ",
		"0123456789\nmore": "0123456789",
	} {
		source := strings.NewReader(in)
		a := &app{stdin: iotest.OneByteReader(source)}
		got, err := a.readLine(10)
		if err != nil || got != want {
			t.Errorf("readLine of %q = %q, %v, want %q", in, got, err, want)
		}
	}
	a := &app{stdin: strings.NewReader("0123456789a\n")}
	if got, err := a.readLine(10); err == nil {
		t.Errorf("readLine of a long line = %q, want an error", got)
	}
	a = &app{stdin: iotest.ErrReader(io.ErrUnexpectedEOF)}
	if got, err := a.readLine(10); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("readLine of a broken pipe = %q, %v", got, err)
	}
}
