package proxy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// asPerson adds a person's credential to a request.
func asPerson(request, options string) string {
	person, how, _ := strings.Cut(options, " ")
	if person == "" {
		return request
	}
	credential := "Authorization: Bearer " + person
	if how == "by cookie" {
		credential = "Cookie: gatehouse=" + person
	}
	first, rest, _ := strings.Cut(request, "\n")
	return first + "\n" + credential + "\n" + rest
}

// rawBytes turns a section into bytes for the wire: lines of the head end in
// CRLF, escapes are resolved, and a head without Host gets one.
func rawBytes(text string) string {
	head, body, _ := strings.Cut(text, "\n\n")
	head = strings.TrimRight(head, "\n")
	if !strings.Contains(head, "\nHost:") && !strings.HasPrefix(head, "HTTP/") {
		first, rest, more := strings.Cut(head, "\n")
		head = first + "\nHost: gw.example"
		if more {
			head += "\n" + rest
		}
	}
	return unescapeBytes(strings.ReplaceAll(head, "\n", "\r\n") + "\r\n\r\n" + strings.TrimSuffix(body, "\n"))
}

func unescapeBytes(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			switch {
			case s[i+1] == 'r':
				b.WriteByte('\r')
				i++
				continue
			case s[i+1] == 'n':
				b.WriteByte('\n')
				i++
				continue
			case s[i+1] == 'x' && i+3 < len(s):
				if n, err := strconv.ParseUint(s[i+2:i+4], 16, 8); err == nil {
					b.WriteByte(byte(n))
					i += 3
					continue
				}
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func exchangeRaw(t *testing.T, addr, request string) (status, response string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	br := bufio.NewReader(conn)
	for {
		res, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			return "", err.Error()
		}
		if res.StatusCode >= 100 && res.StatusCode < 200 && res.StatusCode != http.StatusSwitchingProtocols {
			continue
		}
		var b bytes.Buffer
		for _, name := range slices.Sorted(mapKeys(res.Header)) {
			for _, value := range res.Header[name] {
				fmt.Fprintf(&b, "%s: %s\n", name, value)
			}
		}
		b.WriteByte('\n')
		if res.StatusCode != http.StatusSwitchingProtocols {
			io.Copy(&b, res.Body)
		}
		return strconv.Itoa(res.StatusCode), b.String()
	}
}

func mapKeys(h http.Header) func(func(string) bool) {
	return func(yield func(string) bool) {
		for name := range h {
			if !yield(name) {
				return
			}
		}
	}
}

// tidyHead sorts a request's headers and leaves out what every request has.
func tidyHead(raw string, all bool) string {
	head, body, _ := strings.Cut(raw, "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	slices.Sort(lines[1:])
	var b strings.Builder
	for i, line := range lines {
		name, _, _ := strings.Cut(line, ":")
		switch name {
		case "X-Request-Id":
			line = "X-Request-Id: $ID"
			fallthrough
		case "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Real-Ip", "Host":
			if !all && i > 0 {
				continue
			}
		}
		b.WriteString(line + "\n")
	}
	return b.String() + "\n" + body
}

func compareText(t *testing.T, what, got, want string) {
	t.Helper()
	normal := func(s string) string {
		s = strings.ReplaceAll(s, "\r\n", "\n")
		var lines []string
		for line := range strings.SplitSeq(strings.TrimSpace(s), "\n") {
			if line != "Host: gw.example" {
				lines = append(lines, line)
			}
		}
		return strings.TrimSpace(strings.Join(lines, "\n"))
	}
	if g, w := normal(got), normal(want); g != w {
		t.Errorf("%s:\n%s\nwant:\n%s", what, g, w)
	}
}

func compareResponse(t *testing.T, status, response, want string) {
	t.Helper()
	head, body, hasBody := strings.Cut(want, "\n\n")
	lines := strings.Split(strings.TrimSpace(head), "\n")
	if status != lines[0] {
		t.Errorf("status %s, want %s; response:\n%s", status, lines[0], response)
	}
	gotHead, gotBody, _ := strings.Cut(response, "\n\n")
	for _, line := range lines[1:] {
		if name, absent := strings.CutPrefix(line, "!"); absent {
			if strings.Contains("\n"+gotHead, "\n"+name) {
				t.Errorf("header %s is there:\n%s", name, gotHead)
			}
			continue
		}
		if n := strings.Count("\n"+gotHead+"\n", "\n"+line+"\n"); n != 1 {
			t.Errorf("header %q %d times, want once:\n%s", line, n, gotHead)
		}
	}
	if hasBody {
		if id := headerValue(gotHead, "X-Request-Id"); id != "" {
			gotBody = strings.ReplaceAll(gotBody, id, "$ID")
		}
		if got, want := strings.TrimSpace(gotBody), strings.TrimSpace(body); got != want {
			t.Errorf("body %q, want %q", got, want)
		}
	}
}

func headerValue(head, name string) string {
	for line := range strings.SplitSeq(head, "\n") {
		if value, ok := strings.CutPrefix(line, name+": "); ok {
			return value
		}
	}
	return ""
}

// waitForLog returns the log after mark, once the exchange's line is in it. A
// request that net/http itself refuses has none.
func waitForLog(t *testing.T, logged *syncBuffer, mark int) string {
	for range 200 {
		if s := logged.String()[mark:]; strings.Contains(s, "msg=request") {
			return s
		}
		time.Sleep(time.Millisecond)
	}
	return logged.String()[mark:]
}
