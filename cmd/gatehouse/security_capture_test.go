package main

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
)

// readCaptured reads one request. io.ErrUnexpectedEOF is one that was broken off.
func readCaptured(br *bufio.Reader, conn io.Writer) (c captured, err error) {
	if c.line, err = strictLine(br); err != nil {
		return c, err
	}
	if words := strings.Split(c.line, " "); len(words) != 3 || words[2] != "HTTP/1.1" {
		return c, fmt.Errorf("request line %q", c.line)
	}
	if c.fields, err = strictFields(br); err != nil {
		return c, err
	}
	c.closes = slices.ContainsFunc(c.get("Connection"), func(v string) bool { return strings.EqualFold(v, "close") })
	if len(c.get("Expect")) > 0 {
		_, _ = io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\n")
	}
	lengths, codings := c.get("Content-Length"), c.get("Transfer-Encoding")
	var body strings.Builder
	switch {
	case len(lengths)+len(codings) > 1:
		return c, fmt.Errorf("framed twice: %q %q", lengths, codings)
	case len(lengths) == 1:
		var n int64
		if _, err := fmt.Sscanf(lengths[0], "%d", &n); err != nil {
			return c, fmt.Errorf("length %q", lengths[0])
		}
		_, err = io.CopyN(&body, br, n)
	case len(codings) == 1:
		err = strictChunks(br, &body)
		if err == nil {
			c.trailer, err = strictFields(br)
		}
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	c.body = body.String()
	return c, err
}

func strictLine(br *bufio.Reader) (string, error) {
	line, err := br.ReadString('\n')
	if err != nil {
		return line, io.ErrUnexpectedEOF
	}
	text, is := strings.CutSuffix(line, "\r\n")
	if !is || strings.ContainsAny(text, "\r\x00") {
		return text, fmt.Errorf("line %q", line)
	}
	return text, nil
}

func strictFields(br *bufio.Reader) (fields [][2]string, err error) {
	for {
		line, err := strictLine(br)
		if err != nil || line == "" {
			return fields, err
		}
		name, value, is := strings.Cut(line, ":")
		if !is || name == "" || strings.ContainsAny(name, " \t") {
			return fields, fmt.Errorf("field line %q", line)
		}
		fields = append(fields, [2]string{name, strings.Trim(value, " \t")})
	}
}

func strictChunks(br *bufio.Reader, body io.Writer) error {
	for {
		line, err := strictLine(br)
		if err != nil {
			return err
		}
		var n int64
		if _, err := fmt.Sscanf(line, "%x", &n); err != nil || fmt.Sprintf("%x", n) != line {
			return fmt.Errorf("chunk size %q", line)
		}
		if n == 0 {
			return nil
		}
		if _, err := io.CopyN(body, br, n); err != nil {
			return io.ErrUnexpectedEOF
		}
		if end, err := strictLine(br); err != nil || end != "" {
			return cmpErr(err, fmt.Errorf("%q after a chunk", end))
		}
	}
}

func cmpErr(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}
