package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"unicode"

	"gatehouse/config"
)

// Whatever a client sends may end up in the log: it is one line, and no
// terminal acts on it.
func TestLogLines(t *testing.T) {
	for _, value := range []string{
		"plain", "two\nlines", "carriage\rreturn", "\x1b[2Jcleared", "del\x7f", "del only\x7f", "c1\u009b31m",
		"\u202eright to left", "\u2028separator", "\U000e0001tag", "zero\u200bwidth", "nul\x00", "bad\xff\xfeutf8", `quote"backslash\`,
	} {
		for _, format := range []string{"text", "json"} {
			var out bytes.Buffer
			l := newLogging(&out)
			l.use(config.Log{Level: "info", Format: format})
			l.With("with", value).Info(value, "value", value, value, "as key")
			line, rest, _ := strings.Cut(out.String(), "\n")
			if rest != "" {
				t.Errorf("%s, %q: more than one line: %q", format, value, out.String())
			}
			if i := strings.IndexFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
				t.Errorf("%s, %q: the line holds %q", format, value, line[i:])
			}
			if format == "text" {
				continue
			}
			var fields map[string]any
			if err := json.Unmarshal([]byte(line), &fields); err != nil {
				t.Errorf("json, %q: %v: %s", value, err, line)
			}
			if want := strings.ToValidUTF8(value, "\ufffd"); fields["value"] != want && !strings.Contains(value, "\xff") {
				t.Errorf("json, %q: value = %q, want %q", value, fields["value"], want)
			}
		}
	}
}

func TestLogFollowsTheConfiguration(t *testing.T) {
	var out bytes.Buffer
	l := newLogging(&out)
	l.use(config.Log{Level: "warn", Format: "text"})
	derived := l.With("a", 1).WithGroup("g")
	derived.Info("not wanted")
	if out.Len() > 0 {
		t.Errorf("level warn wrote %q", out.String())
	}
	l.use(config.Log{Level: "debug", Format: "json"})
	derived.Debug("wanted", "b", 2)
	if want := `"msg":"wanted","a":1,"g":{"b":2}}`; !strings.Contains(out.String(), want) {
		t.Errorf("a logger made before wrote %q, want %q in it", out.String(), want)
	}
}

func TestLibraryLog(t *testing.T) {
	for _, c := range []struct {
		line  string
		level slog.Level
		want  string
	}{
		{`Unsolicited response received on idle HTTP channel starting with "HTTP/1.1 200 OK\r\nSet-Cookie: s=secret; err="; err=<nil>`, slog.LevelDebug,
			`Unsolicited response received on idle HTTP channel; err=<nil>`},
		{`malformed MIME header starting with "Cookie secret"`, slog.LevelDebug, `malformed MIME header`},
		{"http: TLS handshake error from 192.0.2.1:5: EOF\n", slog.LevelDebug, "http: TLS handshake error from 192.0.2.1:5: EOF"},
		{"http: panic serving 192.0.2.1:5: boom\ngoroutine 1", slog.LevelError, "http: panic serving 192.0.2.1:5: boom\ngoroutine 1"},
	} {
		var out bytes.Buffer
		l := newLogging(&out)
		l.use(config.Log{Level: "debug", Format: "json"})
		errorLog(l.Logger).Print(c.line)
		var got struct {
			Level slog.Level
			Msg   string
		}
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if got.Level != c.level || got.Msg != c.want {
			t.Errorf("%q is logged as %v %q, want %v %q", c.line, got.Level, got.Msg, c.level, c.want)
		}
	}
}
