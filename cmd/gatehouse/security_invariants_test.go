package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"path"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"gatehouse/config"
)

const (
	markerTarget = "/public/marker"
	marker       = "GET " + markerTarget + " HTTP/1.1\r\nHost: gw.example\r\nConnection: close\r\n\r\n"
)

// heard is one request's verdict from both sides.
type heard struct {
	reply
	outcome   string     // in the words of sent.want
	requests  []captured // at the upstream, without the marker
	aborted   []captured // broken off
	elsewhere []captured // at the upstream of the other host
	isHTTP2   bool
	resetLate bool // a stream that was reset after the answer's head
}

// heardHTTP1 sends s, and behind it a request for the marker, which closes the
// connection.
func (b *hostileBed) heardHTTP1(t *testing.T, gw *servedGateway, s sent) heard {
	t.Helper()
	tag := ""
	if strings.Contains(s.want, "cut") {
		tag = b.app.tag(s)
		s.raw = strings.Replace(s.raw, "\r\nHost: ", "\r\nX-Case: "+tag+"\r\nHost: ", 1)
	}
	h := heard{reply: b.say(t, gw, s.raw+marker)}
	h.collect(t, b, tag)
	h.tell()
	return h
}

// collect reads the upstreams' side.
func (h *heard) collect(t *testing.T, b *hostileBed, tag ...string) {
	t.Helper()
	h.elsewhere = b.other.take(t)
	for _, c := range b.app.take(t, tag...) {
		switch {
		case c.target() == markerTarget:
		case c.err == io.ErrUnexpectedEOF:
			h.aborted = append(h.aborted, c)
		default:
			h.requests = append(h.requests, c)
		}
	}
}

// tell names the outcome.
func (h *heard) tell() {
	status := 0
	if len(h.statuses) > 0 {
		status = h.statuses[0]
	}
	switch {
	case len(h.requests) == 1 && status == http.StatusOK && h.aborted == nil:
		h.outcome = "clean"
	case len(h.requests) > 0:
		h.outcome = fmt.Sprintf("forwarded, %d", status)
	case len(h.aborted) > 0:
		h.outcome = "cut"
	case h.outcome != "": // HTTP/2 has told
	case status == 0:
		h.outcome = "closed"
	case status < 300:
		h.outcome = fmt.Sprintf("own %d", status)
	default:
		h.outcome = fmt.Sprint(status)
	}
}

// heardHTTP2 sends s on a connection of its own.
func (b *hostileBed) heardHTTP2(t *testing.T, s sent) (h heard) {
	t.Helper()
	conn := b.dial(t, b.secure, "h2")
	defer conn.Close()
	_, _ = io.WriteString(conn, http2.ClientPreface)
	framer := http2.NewFramer(conn, conn)
	_ = framer.WriteSettings()
	block := func(fields [][2]string) []byte {
		var out bytes.Buffer
		enc := hpack.NewEncoder(&out)
		for _, f := range fields {
			_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		return out.Bytes()
	}
	tag := b.app.tag(s)
	fields := append(slices.Clone(s.h2), [2]string{"x-case", tag})
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block(fields), EndStream: s.body == "" && s.h2trailer == nil, EndHeaders: true})
	if s.body != "" {
		_ = framer.WriteData(1, s.h2trailer == nil, []byte(s.body))
	}
	if s.h2trailer != nil {
		_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block(s.h2trailer), EndStream: true, EndHeaders: true})
	}
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	h.isHTTP2 = true
	for done := false; !done; {
		frame, err := framer.ReadFrame()
		if err != nil {
			h.outcome = "reset"
			break
		}
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			for _, field := range f.Fields {
				h.raw += field.Name + ": " + field.Value + "\r\n"
			}
			if status := f.PseudoValue("status"); status != "" && status[0] != '1' {
				var n int
				_, _ = fmt.Sscan(status, &n)
				h.statuses = append(h.statuses, n)
				h.last = &http.Response{StatusCode: n, Header: http.Header{}}
				for _, field := range f.RegularFields() {
					h.last.Header.Add(field.Name, field.Value)
				}
			}
			done = f.StreamEnded()
		case *http2.DataFrame:
			h.body += string(f.Data())
			done = f.StreamEnded()
		case *http2.RSTStreamFrame:
			// NO_ERROR after an answer only says that the body is not wanted.
			done = true
			h.resetLate = f.ErrCode != http2.ErrCodeNo
			if len(h.statuses) == 0 {
				h.outcome = "reset"
			}
		case *http2.GoAwayFrame:
			done = true
			h.outcome = "reset"
		}
	}
	conn.Close()
	h.collect(t, b, tag)
	h.tell()
	return h
}

// wrong names the invariants that do not hold.
func (h *heard) wrong(s sent) (broken []string) {
	for _, c := range slices.Concat(h.requests, h.aborted) {
		if c.err != nil && c.err != io.ErrUnexpectedEOF {
			broken = append(broken, fmt.Sprintf("the upstream got what is no request: %v", c.err))
		}
		broken = append(broken, c.impostors(s.as)...)
	}
	if len(h.requests) > 1 {
		broken = append(broken, fmt.Sprintf("I3: one request became %d", len(h.requests)))
	}
	if len(h.elsewhere) > 0 {
		broken = append(broken, fmt.Sprintf("I2: the other host's upstream saw %q", h.elsewhere[0].line))
	}
	if len(h.requests) == 0 && len(h.statuses) > 0 && !h.isHTTP2 && h.last.Header.Get("X-Request-Id") == "" {
		broken = append(broken, "an answer of the gateway without X-Request-Id")
	}
	if len(h.requests) > 0 && len(h.hints) > 0 && !strings.Contains(strings.ToLower(s.raw), "expect:") {
		broken = append(broken, fmt.Sprintf("1xx answers %d that nobody asked for", h.hints))
	}
	for _, c := range h.requests {
		if need := needs(clientTarget(s)); need > levels[s.as] {
			broken = append(broken, fmt.Sprintf("I2: %q was forwarded, which can be read as what %q may not see", c.line, s.as))
		}
		for _, cookie := range c.get("Cookie") {
			if strings.Contains(strings.ToLower(cookie), "gatehouse") {
				broken = append(broken, "the gateway's cookie reached the upstream: "+cookie)
			}
		}
		for _, want := range s.sees {
			lines := c.lines()
			absent, not := strings.CutPrefix(want, "!")
			if not && strings.Contains(strings.ToLower(lines), strings.ToLower(absent)) || !not && !strings.Contains(lines, "\n"+want+"\n") {
				broken = append(broken, fmt.Sprintf("want %q in what the upstream saw:\n%s", want, lines))
			}
		}
	}
	return broken
}

// lines is everything of a request, one line each.
func (c *captured) lines() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\n", c.line)
	for _, f := range c.fields {
		fmt.Fprintf(&b, "%s: %s\n", f[0], f[1])
	}
	fmt.Fprintf(&b, "\n%s\n", c.body)
	for _, f := range c.trailer {
		fmt.Fprintf(&b, "trailer %s: %s\n", f[0], f[1])
	}
	return b.String()
}

// principals are what the upstream may be told, by the name of whom.
var principals = map[string]map[string]string{
	"": {},
	"alice": {"x-forwarded-user": "u-alice", "x-forwarded-email": "alice@example.com", "x-forwarded-preferred-username": "Alice",
		"x-forwarded-groups": "user", "x-gatehouse-assertion": "*"},
	"admin": {"x-forwarded-user": "u-admin", "x-forwarded-email": "admin@example.com", "x-forwarded-preferred-username": "Admin",
		"x-forwarded-groups": "user,admin", "x-gatehouse-assertion": "*"},
}

// impostors is invariant I1: every field that an upstream could take for one
// about identity, in the header and in the trailers, is there once at most, and
// says who was verified.
func (c *captured) impostors(as string) (wrong []string) {
	told := principals[as]
	seen := map[string]int{}
	for i, f := range slices.Concat(c.fields, c.trailer) {
		name := config.HeaderSpelling(f[0])
		if _, about := principals["alice"][name]; !about {
			continue
		}
		seen[name]++
		if want, ok := told[name]; !ok || want != "*" && want != f[1] || !strings.EqualFold(name, f[0]) || i >= len(c.fields) || seen[name] > 1 {
			wrong = append(wrong, fmt.Sprintf("I1: %s: %s for %q", f[0], f[1], as))
		}
	}
	return wrong
}

// The levels of access of the bed's rules.
var levels = map[string]int{"": 0, "alice": 1, "admin": 2}

// clientTarget is the path that the client asked for.
func clientTarget(s sent) string {
	target := ""
	for _, f := range s.h2 {
		if f[0] == ":path" {
			target = f[1]
		}
	}
	if s.h2 == nil {
		line, _, _ := strings.Cut(strings.TrimLeft(s.raw, "\r\n"), "\r\n")
		if words := strings.Split(line, " "); len(words) > 1 {
			target = words[1]
		}
	}
	if _, rest, absolute := strings.Cut(target, "://"); absolute && target[0] != '/' {
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			return rest[i:]
		}
		return "/"
	}
	return target
}

// needs is invariant I2, by readings of its own, not the gateway's: the level
// that the strictest common reading of the target asks for.
func needs(target string) (level int) {
	before, _, _ := strings.Cut(target, "?")
	cut := func(chars string) func(string) string {
		return func(s string) string {
			if i := strings.IndexAny(s, chars); i >= 0 {
				return s[:i]
			}
			return s
		}
	}
	lenient := []func(string) string{
		decodedOnce,
		func(s string) string { return path.Clean("/" + s) },
		func(s string) string { return strings.ReplaceAll(s, `\`, "/") },
		func(s string) string {
			segments := strings.Split(s, "/")
			for i := range segments {
				segments[i], _, _ = strings.Cut(segments[i], ";")
			}
			return strings.Join(segments, "/")
		},
		strings.ToLower,
		cut("\x00"), cut("#"), cut("?"),
	}
	readings := []string{decodedOnce(before)}
	for i := 0; i < len(readings) && i < 2000; i++ {
		for _, read := range lenient {
			if s := read(readings[i]); !slices.Contains(readings, s) {
				readings = append(readings, s)
			}
		}
	}
	for _, s := range readings {
		under := func(prefix string) bool { return s == prefix || strings.HasPrefix(s, prefix+"/") }
		switch {
		case under("/admin"):
			return levels["admin"]
		case !under("/public") && !under("/strip") && !under("/read"):
			level = levels["alice"]
		}
	}
	return level
}

func decodedOnce(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		var c byte
		if s[i] == '%' && i+2 < len(s) {
			if _, err := fmt.Sscanf(s[i+1:i+3], "%02x", &c); err == nil {
				b.WriteByte(c)
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
