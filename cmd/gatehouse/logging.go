package main

import (
	"bytes"
	"context"
	"io"
	"log"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"gatehouse/config"
)

// logging is the log of the process. What the log: section says can change
// while it is in use.
type logging struct {
	*slog.Logger
	level slog.LevelVar
	json  atomic.Bool
}

func newLogging(w io.Writer) *logging {
	l := &logging{}
	lines := &lineWriter{w: w}
	options := &slog.HandlerOptions{Level: &l.level}
	l.Logger = slog.New(handler{
		text:   slog.NewTextHandler(lines, options),
		json:   slog.NewJSONHandler(lines, options),
		asJSON: &l.json,
	})
	return l
}

// use applies the log: section of a configuration, but for access, which is the
// gateway's.
func (l *logging) use(c config.Log) {
	var level slog.Level // the configuration is valid: an unknown word cannot come here
	_ = level.UnmarshalText([]byte(c.Level))
	l.level.Set(level)
	l.json.Store(c.Format == "json")
}

// A handler writes text or JSON, whichever is asked for at that moment. Loggers
// made from it with more attributes follow as well.
type handler struct {
	text, json slog.Handler
	asJSON     *atomic.Bool
}

func (h handler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.text.Enabled(ctx, level)
}

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	if h.asJSON.Load() {
		return h.json.Handle(ctx, r)
	}
	return h.text.Handle(ctx, r)
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.text.WithAttrs(attrs), h.json.WithAttrs(attrs), h.asJSON}
}

func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.text.WithGroup(name), h.json.WithGroup(name), h.asJSON}
}

// A lineWriter makes sure that one record is one line and that nothing in it
// can drive a terminal: slog lets DEL pass, and in JSON the C1 control
// characters and those that turn the direction of writing around.
type lineWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lineWriter) Write(record []byte) (int, error) {
	line := escapeLine(record)
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.w.Write(line); err != nil {
		return 0, err
	}
	return len(record), nil
}

func escapeLine(record []byte) []byte {
	body := bytes.TrimSuffix(record, []byte("\n"))
	for _, c := range body {
		if c < ' ' || c > '~' {
			return append(printableJSON(body), '\n')
		}
	}
	return record
}

// redirectStandardLog sends what libraries print with package log to our log.
// They do it for oddities of other programs, so it is for debugging.
func redirectStandardLog(l *slog.Logger) {
	log.SetFlags(0)
	log.SetOutput(libraryLog{l})
}

// errorLog is http.Server's: connections that went wrong are for debugging, a
// listener or a handler that did is for everybody.
func errorLog(l *slog.Logger) *log.Logger { return log.New(libraryLog{l}, "", 0) }

// A libraryLog takes lines from the standard library.
type libraryLog struct{ log *slog.Logger }

func (l libraryLog) Write(p []byte) (int, error) {
	line := withoutRawBytes(strings.TrimSpace(string(p)))
	level := slog.LevelDebug
	switch {
	case strings.Contains(line, "panic serving"):
		level = slog.LevelError
	case strings.HasPrefix(line, "http: superfluous"):
		level = slog.LevelWarn
	}
	l.log.Log(context.Background(), level, line)
	return len(p), nil
}

// withoutRawBytes cuts what a peer sent out of a line such as
//
//	Unsolicited response received on idle HTTP channel starting with "HTTP/1.1 200 OK\r\nSet-Cookie: …"; err=<nil>
//
// since that may be somebody's answer, credentials included.
func withoutRawBytes(line string) string {
	before, after, found := strings.Cut(line, " starting with ")
	if !found {
		return line
	}
	if i := strings.LastIndex(after, "; err="); i >= 0 {
		return before + after[i:]
	}
	return before
}
