package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
)

// upstreamHeaderBytes bounds what an upstream can make the gateway hold: the
// heads of one answer together, or a trailer section.
const upstreamHeaderBytes = 256 << 10

// answer reads heads until one is final.
func (x *h1Exchange) answer() (*http.Response, error) {
	var trace *httptrace.ClientTrace
	for room := upstreamHeaderBytes; ; {
		head, err := x.head(room)
		if err != nil {
			return nil, err
		}
		room -= len(head)
		res, err := parseHead(head, x.request)
		if err != nil {
			return nil, err
		}
		if res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
			return res, x.final(res)
		}
		if res.StatusCode == http.StatusContinue && x.upload != nil && x.upload.proceed != nil {
			x.upload.decide(true)
		}
		if trace == nil {
			trace = httptrace.ContextClientTrace(x.request.Context())
		}
		if trace != nil && trace.Got1xxResponse != nil {
			if err := trace.Got1xxResponse(res.StatusCode, textproto.MIMEHeader(res.Header)); err != nil {
				return nil, err
			}
		}
	}
}

// head reads the next head, with the empty line at its end. What goes wrong
// before its first byte on a kept connection may be no answer at all: the
// upstream had already closed it.
func (x *h1Exchange) head(room int) (string, error) {
	in := x.conn.in
	first, err := in.Peek(len("HTTP/1."))
	switch {
	case err != nil && len(first) == 0:
		x.again = x.conn.reused && replayable(x.request) && !x.late(err)
		return "", err
	case err == nil && string(first) != "HTTP/1.": // then an empty line may never come
		first, _ = in.Peek(min(in.Buffered(), 32))
		return "", fmt.Errorf("malformed HTTP response %q", first)
	}
	s, err := readHead(in, room)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return s, err
}

// readHead reads lines up to an empty one, of at most room bytes together. Every
// line must end in CRLF: an app that keeps CR LF out of a header value and
// forgets LF alone must not have its answer split by it (RFC 9112, section 2.2,
// leaves the choice).
func readHead(in *bufio.Reader, room int) (string, error) {
	var scratch [512]byte // most heads are shorter
	head, begin := scratch[:0], 0
	for {
		piece, err := in.ReadSlice('\n')
		if head = append(head, piece...); len(head) > room {
			return "", fmt.Errorf("the upstream's header exceeds %d bytes", upstreamHeaderBytes)
		}
		if err == bufio.ErrBufferFull {
			continue
		}
		if err != nil {
			return "", err
		}
		line := head[begin:]
		switch {
		case len(line) < 2 || line[len(line)-2] != '\r':
			return "", fmt.Errorf("malformed HTTP response: line %q without a carriage return", string(line))
		case len(line) == 2:
			return string(head), nil
		}
		begin = len(head)
	}
}

// parseHead reads a head: a status line, fields, and the empty line. Versions
// other than 1.0 and 1.1 are no HTTP/1.1 connection's, and there are no folded
// lines: RFC 9112, section 5.2, lets a gateway refuse those.
func parseHead(s string, r *http.Request) (*http.Response, error) {
	line, s, _ := strings.Cut(s, "\r\n")
	const size = len("HTTP/1.1 200")
	if len(line) < size || line[:7] != "HTTP/1." || line[7] != '0' && line[7] != '1' || line[8] != ' ' ||
		len(line) > size && line[size] != ' ' || !blankOr(line[size:]) {
		return nil, fmt.Errorf("malformed HTTP response %q", line)
	}
	status := 0
	for _, c := range []byte(line[9:size]) {
		if c < '0' || c > '9' {
			return nil, fmt.Errorf("malformed HTTP response %q", line)
		}
		status = 10*status + int(c-'0')
	}
	if status < 100 {
		return nil, fmt.Errorf("malformed HTTP response %q", line)
	}
	fields, err := parseFields(s)
	if err != nil {
		return nil, err
	}
	return &http.Response{
		Status:     line[9:],
		StatusCode: status,
		Proto:      line[:8],
		ProtoMajor: 1,
		ProtoMinor: int(line[7] - '0'),
		Header:     fields,
		Request:    r,
	}, nil
}

// parseFields reads the fields of a head or a trailer section, and the empty line.
func parseFields(s string) (http.Header, error) {
	n := strings.Count(s, "\n") - 1
	if n > maxFieldLines {
		return nil, fmt.Errorf("the upstream sent more than %d header lines", maxFieldLines)
	}
	h := make(http.Header, n)
	values := make([]string, n) // one allocation for all of them
	for s != "\r\n" {
		line, rest, _ := strings.Cut(s, "\r\n")
		name, value, ok := strings.Cut(line, ":")
		if !ok || !consists(name, &tokenBytes) {
			return nil, fmt.Errorf("malformed HTTP response: header line %q", line)
		}
		value = strings.Trim(value, " \t")
		if !blankOr(value) {
			return nil, fmt.Errorf("malformed HTTP response: control characters in header line %q", line)
		}
		name = textproto.CanonicalMIMEHeaderKey(name)
		if have, ok := h[name]; ok {
			h[name] = append(have, value)
		} else {
			values[0] = value
			h[name], values = values[:1:1], values[1:]
		}
		s = rest
	}
	return h, nil
}

// blankOr reports whether s may stand in a field's value.
func blankOr(s string) bool { return s == "" || consists(s, &valueBytes) }
