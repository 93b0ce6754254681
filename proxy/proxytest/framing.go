// Package proxytest has what tests of several packages say to a gateway.
package proxytest

import (
	"net/http"
	"strings"
)

// A FramingCase is a request that is refused, with Status, and after which the
// connection is closed.
type FramingCase struct {
	Number int // in the list of cases, .github/SECURITY.md; 0: of the same class
	Name   string
	Raw    string
	Status int
	Body   string // the part of Raw after the head, where that is what is wrong
}

// FramingCases are requests whose framing, or whose head, two parsers could read
// in two ways.
func FramingCases() (cases []FramingCase) {
	add := func(number int, name string, status int, raw string) {
		cases = append(cases, FramingCase{number, name, raw, status, ""})
	}
	// post is a request with these header lines, and a body.
	post := func(lines, body string) string { return "POST / HTTP/1.1\r\nHost: a\r\n" + lines + "\r\n" + body }
	chunks := func(number int, name, body string) {
		cases = append(cases, FramingCase{number, name, post("Transfer-Encoding: chunked\r\n", body), 400, body})
	}

	const chunked, length = "Transfer-Encoding: chunked\r\n", "Content-Length: 5\r\n"
	add(67, "length, then chunked", 400, post(length+chunked, "0\r\n\r\n"))
	add(67, "chunked, then length", 400, post(chunked+length, "hello"))
	add(67, "chunked, then length 0", 400, post(chunked+"Content-Length: 0\r\n", "0\r\n\r\n"))
	add(67, "length and chunked in capitals", 400, post("CONTENT-LENGTH: 5\r\nTRANSFER-ENCODING: CHUNKED\r\n", "0\r\n\r\n"))
	add(67, "length and a coding nobody knows", 501, post(length+"Transfer-Encoding: xchunked\r\n", "hello"))
	add(67, "length, chunked, length", 400, post(length+chunked+length, "0\r\n\r\n"))
	add(67, "length and chunked on GET", 400, "GET / HTTP/1.1\r\nHost: a\r\n"+length+chunked+"\r\n0\r\n\r\n")
	add(67, "length that is no number, and chunked", 400, post("Content-Length: x\r\n"+chunked, "0\r\n\r\n"))

	add(68, "two lengths", 400, post(length+"Content-Length: 6\r\n", "hello"))
	add(68, "the same length twice", 400, post(length+length, "hello"))
	for _, value := range []string{"1, 1", "1, 2", "1,1", "+5", "-5", "-0", "0x5", "5_0", "5 5", "5.0", "5e0", "٥", "", " ", "5;", "\"5\"", "chunked",
		"18446744073709551621", "9223372036854775808", "1000000000000000000", strings.Repeat("0", 40) + "5", "5\v", "5\x00"} {
		add(68, "length "+value, 400, post("Content-Length: "+value+"\r\n", "hello"))
	}

	add(70, "chunked twice", 400, post(chunked+chunked, "0\r\n\r\n"))
	for _, value := range []string{",chunked", "chunked,", "chunked, identity", "identity", "xchunked", "gzip, chunked", "chunked;q=1",
		"chunked, chunked", "\"chunked\"", "chun ked", "ch\xd5nked", "gzip"} {
		add(71, "coding "+value, 501, post("Transfer-Encoding: "+value+"\r\n", "0\r\n\r\n"))
	}
	for _, value := range []string{"", " ", "chunked" + strings.Repeat(" ", 60), "\vchunked", "chunked\v", "\x00chunked", "chunked\x00"} {
		add(71, "coding "+value, 400, post("Transfer-Encoding: "+value+"\r\n", "0\r\n\r\n"))
	}

	add(73, "folded coding", 400, post("Transfer-Encoding:\r\n chunked\r\n"+length, "hello"))
	add(73, "folded with a tab", 400, post("X: y\r\n\tz\r\n", ""))
	add(73, "folded last line", 400, "GET / HTTP/1.1\r\nHost: a\r\n \r\n\r\n")
	add(74, "space before the colon", 400, post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"))
	add(14, "space before the colon of a name", 400, "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-User : admin\r\n\r\n")
	add(14, "tab before the colon of a name", 400, "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-User\t: admin\r\n\r\n")
	add(0, "chunked in HTTP/1.0", 400, "POST / HTTP/1.0\r\nHost: a\r\n"+chunked+"\r\n0\r\n\r\n")

	for _, size := range []string{"0x5", "+5", "-0", "-5", "5_0", " 5", "5 ", "\t5", "5\t", "", "00000000000000005", "ffffffffffffffff", "7fffffffffffffff",
		"5\x00", "5,5", "g", "٥", "5\v"} {
		chunks(76, "size "+size, size+"\r\nhello\r\n0\r\n\r\n")
	}
	chunks(77, "size line ended by a line feed", "5\nhello\r\n0\r\n\r\n")
	chunks(77, "size line with two returns", "5\r\r\nhello\r\n0\r\n\r\n")
	chunks(77, "return and another byte", "5\rXhello\r\n0\r\n\r\n")
	chunks(77, "line feed in an extension", "5;a\nhello\r\n0\r\n\r\n")
	chunks(77, "line feed in a quoted extension", "5;a=\"\n\"\r\nhello\r\n0\r\n\r\n")
	chunks(77, "last chunk ended by line feeds", "5\r\nhello\r\n0\n\n")
	chunks(77, "trailers ended by a line feed", "5\r\nhello\r\n0\r\n\n")
	for _, extension := range []string{";", ";;a", "; a", " ;a", ";a=", ";a=b c", ";a\x00", ";a=\"b\"c", ";a=\"b\x01\"", ";=a", ";a==b", ";" + strings.Repeat("a", 300)} {
		chunks(76, "extension "+extension, "5"+extension+"\r\nhello\r\n0\r\n\r\n")
	}
	chunks(79, "more data than the size says", "5\r\nhello!\r\n0\r\n\r\n")
	chunks(79, "no line end after data", "5\r\nhello0\r\n\r\n")
	chunks(79, "XX after data", "5\r\nhelloXX0\r\n\r\n")
	chunks(79, "line feed after data", "5\r\nhello\n0\r\n\r\n")
	chunks(13, "a folded trailer", "0\r\nX: a\r\n b\r\n\r\n")
	chunks(13, "a trailer without a colon", "0\r\nX\r\n\r\n")
	chunks(13, "a space before a trailer's colon", "0\r\nX : a\r\n\r\n")
	chunks(13, "NUL in a trailer", "0\r\nX: \x00\r\n\r\n")
	chunks(13, "return in a trailer", "0\r\nX: a\rb\r\n\r\n")

	add(82, "many empty lines", 400, strings.Repeat("\r\n", 20)+"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	add(82, "1 MB of empty lines", 400, strings.Repeat("\r\n", 1<<19))
	add(82, "line feed before the request line", 400, "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
	add(82, "return before the request line", 400, "\rGET / HTTP/1.1\r\nHost: a\r\n\r\n")
	add(82, "space before the request line", 400, " GET / HTTP/1.1\r\nHost: a\r\n\r\n")

	for _, value := range []string{"y 100-continue", "200-ok", "", "100-continue, x", "100-continue;q=1", "100 continue", "x, 100-continue"} {
		add(85, "expect "+value, 417, post("Expect: "+value+"\r\n"+length, "hello"))
	}
	add(85, "expect twice", 400, post("Expect: 100-continue\r\nExpect: 100-continue\r\n"+length, "hello"))

	get := func(line string) string { return line + "\r\nHost: a\r\n\r\n" }
	for _, line := range []string{"GET /", "GET / HTTP/1.1 ", "GET  / HTTP/1.1", "GET /  HTTP/1.1", "GET\t/ HTTP/1.1", "GET / \tHTTP/1.1", "GET / http/1.1",
		"GET / Http/1.1", "GET / HTTP/1.1x", "GET / HTTP/1", "GET / HTTP/1.", "GET / HTTP/11", "GET / HTTP/1,1", "GET / HTTP/a.1", "GET / HTTPS/1.1", "GET / ICE/1.0",
		"GET  HTTP/1.1", " / HTTP/1.1", "GET/ HTTP/1.1", "GET /a b HTTP/1.1", "GET /\x00 HTTP/1.1", "GET /\x7f HTTP/1.1", "G\x00ET / HTTP/1.1", "GÉT / HTTP/1.1",
		"GET, / HTTP/1.1", "(GET) / HTTP/1.1", "GET", "GET /\r/ HTTP/1.1", "GET / HTTP/\r1.1"} {
		add(0, "request line "+line, 400, get(line))
	}
	for _, line := range []string{"GET / HTTP/1.2", "GET / HTTP/2.0", "GET / HTTP/0.9", "GET / HTTP/3.0", "GET / HTTP/9.9", "PRI * HTTP/2.0"} {
		add(0, "version of "+line, 505, get(line))
	}
	add(0, "HTTP/2 preface", 505, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")

	for _, lines := range []string{"", "Host:\r\n", "Host: \t\r\n", "Host: a\r\nHost: a\r\n", "Host: a\r\nhost: b\r\n", "Host: a b\r\n", "Host: a\x80\r\n",
		"Host: a\\b\r\n", "Host: a/b\r\n", "Host: a\r\nX: y\r\nHOST:\r\n", "Hos\x74 : a\r\n", "Host: \"a\"\r\n", "Host: a#b\r\n", "Host: a@b?\r\n"} {
		add(0, "host lines "+lines, 400, "GET / HTTP/1.1\r\n"+lines+"\r\n")
	}
	add(0, "two hosts in HTTP/1.0", 400, "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n")
	add(0, "an empty host beside an absolute target", 400, "GET http://a/ HTTP/1.1\r\nHost:\r\n\r\n")

	for _, line := range []string{" X: a", "\tX: a", "X", ": a", "X\x00: a", "X\x80: a", "X\xc3\xa9: a", "X\x01: a", "X(: a", "X Y: a", "\"X\": a", "X: a\x00", "X: \x01", "X: a\x7f",
		"Authorization: Bearer hunter2\x00hunter2", "X: a\rY: b", "X: a\r\r", "X: a\nY: b", "X: a\n", "\rX: a", "X\r: a", "X:\x0b", "X\n: a", "\n", "X: a\n\n"} {
		add(0, "header line "+line, 400, "GET / HTTP/1.1\r\n"+line+"\r\nHost: a\r\n\r\n")
	}
	add(0, "line feeds only", 400, "GET / HTTP/1.1\nHost: a\n\n")
	add(0, "line feed after the request line", 400, "GET / HTTP/1.1\nHost: a\r\n\r\n")
	add(0, "line feed at the head's end", 400, "GET / HTTP/1.1\r\nHost: a\r\n\n")

	// What the grammar allows and net/http does not.
	for _, target := range []string{"/%zz", "/%", "/%0", "/a%2gb?c", ":a", "1a:b", "a%zz", "http://a:b:c/", "http://[::1/", "http://a:99999999999999999999x/", "http://a%zz/",
		"http://a/%zz", "://a/"} {
		add(0, "target "+target, 400, get("GET "+target+" HTTP/1.1"))
	}
	add(0, "a CONNECT target that is no authority", 400, get("CONNECT a/%zz HTTP/1.1"))

	large := func(lines string) string { return "GET / HTTP/1.1\r\nHost: a\r\n" + lines + "\r\n" }
	const tooLarge = http.StatusRequestHeaderFieldsTooLarge
	add(196, "10,000 headers", tooLarge, large(strings.Repeat("a:\r\n", 10000)))
	add(196, "501 headers", tooLarge, large(strings.Repeat("a:\r\n", 500)))
	add(196, "1 MB header", tooLarge, large(strings.Repeat("Name: "+strings.Repeat("a", 4090)+"\r\n", 256)))
	add(196, "100 kB line", tooLarge, large("A: "+strings.Repeat("a", 100<<10)+"\r\n"))
	add(196, "100 kB target", tooLarge, get("GET /"+strings.Repeat("a", 100<<10)+" HTTP/1.1"))
	add(196, "100 kB method", tooLarge, get(strings.Repeat("A", 100<<10)+" / HTTP/1.1"))
	add(196, "100 kB name", tooLarge, large(strings.Repeat("A", 100<<10)+": a\r\n"))
	return cases
}
