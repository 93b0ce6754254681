package proxy

import (
	"bufio"
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"gatehouse/proxy/proxytest"
)

// A scriptedConn is a client that has said everything already. It comes in
// pieces.
type scriptedConn struct {
	net.Conn
	said  []byte
	piece int
	got   bytes.Buffer
}

func (c *scriptedConn) Read(p []byte) (int, error) {
	if len(c.said) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), c.piece)], c.said)
	c.said = c.said[n:]
	return n, nil
}

func (c *scriptedConn) Write(p []byte) (int, error) { return c.got.Write(p) }
func (c *scriptedConn) CloseWrite() error           { return nil }
func (c *scriptedConn) SetDeadline(time.Time) error { return nil }
func (c *scriptedConn) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}
}

// The grammar once more, written in another way.
var (
	strictHead = regexp.MustCompile("^[!#$%&'*+\\-.^_`|~0-9A-Za-z]+ [^\\x00- \\x7f]+ HTTP/1\\.[01]\r\n" +
		"([!#$%&'*+\\-.^_`|~0-9A-Za-z]+:[\t -~\\x80-\\xff]*\r\n)*\r\n")
	strictSize    = regexp.MustCompile("^([0-9A-Fa-f]{1,16})(;[!#$%&'*+\\-.^_`|~0-9A-Za-z]+(=([!#$%&'*+\\-.^_`|~0-9A-Za-z]+|\"([^\\x00-\\x08\\x0a-\\x1f\\x7f\"\\\\]|\\\\[\t -~\\x80-\\xff])*\"))?)*\r\n")
	strictTrailer = regexp.MustCompile("^([!#$%&'*+\\-.^_`|~0-9A-Za-z]+:[\t -~\\x80-\\xff]*\r\n)*\r\n$")
)

// latin makes regexp see bytes where it would look for UTF-8.
func latin(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		s.WriteRune(rune(c))
	}
	return s.String()
}

// unchunk decodes a whole chunked body, strictly.
func unchunk(s string) (body string, ok bool) {
	for {
		m := strictSize.FindStringSubmatch(s)
		if m == nil {
			return "", false
		}
		s = s[len(m[0]):]
		n, err := strconv.ParseInt(m[1], 16, 64)
		if err != nil {
			return "", false
		}
		if n == 0 {
			return body, strictTrailer.MatchString(s)
		}
		// Each rune of s was a byte, so runes are counted.
		r := []rune(s)
		if int64(len(r)) < n+2 || string(r[n:n+2]) != "\r\n" {
			return "", false
		}
		body, s = body+string(r[:n]), string(r[n+2:])
	}
}

// FuzzFraming: whatever a client sends, and in whatever pieces, net/http finds
// the requests where the guard says that they are, each by the strict grammar,
// and not a byte beyond.
func FuzzFraming(f *testing.F) {
	for i, c := range proxytest.FramingCases() {
		switch {
		case len(c.Raw) > 2000:
		case i%2 == 0: // not both: seeds take of the time for fuzzing
			f.Add([]byte(c.Raw+marker), uint8(200))
		default:
			f.Add([]byte(marker+c.Raw), uint8(3))
		}
	}
	const chunks = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;a=\"b\\\"\";c\r\nhello\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\n"
	f.Add([]byte(chunks+chunks+"\r\n"+marker), uint8(1))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc"+marker), uint8(255))
	f.Fuzz(sameRequests)
}

// Every case in both shapes, of which the seeds have one each.
func TestFramingAlike(t *testing.T) {
	for _, c := range proxytest.FramingCases() {
		if len(c.Raw) < 2000 {
			sameRequests(t, []byte(c.Raw+marker), 200)
			sameRequests(t, []byte(marker+c.Raw), 3)
		}
	}
}

// sameRequests holds net/http to the requests that the guard finds in data, which
// comes in pieces.
func sameRequests(t *testing.T, data []byte, piece uint8) {
	client := &scriptedConn{said: data, piece: int(piece) + 1}
	c := (&Guard{Log: slog.New(slog.DiscardHandler)}).Conn(client, 4<<10, 0).(*guarded)
	var passed bytes.Buffer
	br := bufio.NewReader(io.TeeReader(c, &passed))
	for {
		passed.Reset()
		r, err := http.ReadRequest(br)
		if err != nil {
			// Nothing of net/http's is missing here: it reads URLs, which the guard does not.
			if answer := client.got.String(); answer != "" && (c.err == nil || !strings.HasPrefix(answer, "HTTP/1.1 ")) {
				t.Fatalf("answered %q", answer)
			}
			return
		}
		if !c.answering {
			t.Fatalf("net/http has a request where the guard has none: %q", passed.Bytes())
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		raw := passed.Bytes()
		if !c.between() || br.Buffered() != 0 {
			t.Fatalf("net/http says that the request ends with %q; the guard is in state %d, and passed %d bytes more", raw, c.state, br.Buffered())
		}
		text := latin(raw)
		head := strictHead.FindString(text)
		if head == "" {
			t.Fatalf("passed a head that is none: %q", raw)
		}
		rest, names := text[len(head):], strings.ToLower(head)
		lengths, codings := strings.Count(names, "\r\ncontent-length:"), strings.Count(names, "\r\ntransfer-encoding:")
		if lengths+codings > 1 || strings.Count(names, "\r\nhost:") > 1 || codings == 1 && strings.Contains(head, " HTTP/1.0\r\n") {
			t.Fatalf("passed an unclear head: %q", raw)
		}
		want, ok := rest, true
		if codings == 1 {
			want, ok = unchunk(rest)
		}
		if !ok || want != latin(body) {
			t.Fatalf("passed %q, of which net/http makes the body %q", raw, body)
		}
		GuardState(c, http.StateIdle)
	}
}
