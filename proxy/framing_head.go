package proxy

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
)

// A framer follows requests byte by byte, in whatever pieces they come. It
// knows one way to write each thing, a part of what RFC 9112 allows:
//
//	head  = method SP target SP "HTTP/1." ("0" | "1") CRLF *field CRLF
//	field = token ":" *(HTAB | SP | VCHAR | obs-text) CRLF
//
// with no empty method, target or name, one Host that is not empty (none is
// needed in HTTP/1.0), and of Content-Length and Transfer-Encoding at most one,
// once. Lines end in CRLF and nowhere else, and none begins with a space.
type framer struct {
	limit int // bytes of a head, and of a trailer section

	state    state
	complete bool   // a head's end was passed
	trailer  bool   // fields are those of a trailer section
	size     int    // of the head so far
	lines    int    // of fields so far
	left     uint64 // of the body, or of the chunk
	count    int    // of bytes in this element of the line
	skipped  int    // CRLFs before the request line

	minor    byte // of the version
	seen     field
	empty    bool   // this element of the line
	declared uint64 // by Content-Length

	field field    // whose value comes
	name  [18]byte // of the field, as far as it fits
	value [24]byte // of a field that matters
}

type state uint8

const (
	atStart state = iota // of a request
	strayCR              // a CRLF before it, half read
	inMethod
	inTarget
	inVersion
	versionCR
	versionLF
	fieldStart
	inName
	inValue
	valueLF
	endLF
	inBody
	inSize // see framing_body.go
	extName
	extEquals
	extToken
	extQuoted
	extEscape
	extQuotedEnd
	sizeLF
	inChunk
	chunkCR
	chunkLF
)

// field is a header field that matters to framing.
type field uint8

const (
	fieldHost field = 1 << iota
	fieldLength
	fieldEncoding
	fieldExpect
	fieldUpgrade // only that it is there matters

	fieldOther field = 0
)

const (
	// Old clients send a CRLF after a body (RFC 9112, section 2.2).
	maxStrays = 4
	// net/http makes a map entry of each; 500 cost it 100 kB.
	maxFieldLines = 500
)

// between is true where no byte of the next request was seen.
func (f *framer) between() bool { return f.state <= strayCR }

// strays counts the bytes at the beginning of b that are line ends before a
// request. They are not handed on: net/http knows them after a POST only.
func (f *framer) strays(b []byte) (n int, wrong *violation) {
	for n < len(b) && f.between() {
		switch {
		case f.state == strayCR && b[n] == '\n':
			f.state = atStart
		case f.state == strayCR:
			return n, bad("a carriage return alone before the request line")
		case b[n] != '\r':
			return n, nil
		default:
			if f.skipped++; f.skipped > maxStrays {
				return n, bad("more than %d empty lines before the request line", maxStrays)
			}
			f.state = strayCR
		}
		n++
	}
	return n, nil
}

// scan follows b to its end or to the end of the request, whatever comes first,
// and returns how far it came.
func (f *framer) scan(b []byte) (n int, wrong *violation) {
	if f.state == atStart {
		*f = framer{limit: f.limit, state: inMethod}
	}
	for n < len(b) && wrong == nil && f.state != atStart {
		var taken int
		switch {
		case f.state < inBody:
			taken, wrong = f.head(b[n:])
		case f.state == inBody, f.state == inChunk:
			taken = f.counted(len(b) - n)
		default:
			taken, wrong = f.chunkLine(b[n:])
		}
		n += taken
	}
	return n, wrong
}

// head follows a head or a trailer section.
func (f *framer) head(b []byte) (n int, wrong *violation) {
	for n < len(b) && wrong == nil && f.state > strayCR && f.state < inBody {
		c := b[n]
		switch f.state {
		case inMethod:
			run := span(b[n:], &tokenBytes)
			n += run
			f.count += run
			if n < len(b) {
				wrong = f.after(b[n], ' ', inTarget, "the method")
				n++
			}
		case inTarget:
			run := span(b[n:], &targetBytes)
			n += run
			f.count += run
			if n < len(b) {
				wrong = f.after(b[n], ' ', inVersion, "the request target")
				n++
			}
		case inVersion:
			n++
			f.value[f.count] = c
			if f.count++; c == '\r' || c == '\n' {
				wrong = bad("a request line without a version, or with half of one")
			} else if f.count == len("HTTP/1.1") {
				wrong = f.version(f.value[:f.count])
			}
		case versionCR, versionLF, valueLF, endLF:
			n++
			wrong = f.lineEnd(c)
		case fieldStart:
			switch c {
			case '\r':
				n++
				f.state = endLF
			case ' ', '\t':
				wrong = bad("line %d begins with a space", f.lines+1)
			default:
				if f.lines++; f.lines > maxFieldLines {
					wrong = &violation{http.StatusRequestHeaderFieldsTooLarge, fmt.Sprintf("more than %d header lines", maxFieldLines)}
				}
				f.state, f.count = inName, 0
			}
		case inName:
			run := span(b[n:], &tokenBytes)
			if f.count < len(f.name) {
				copy(f.name[f.count:], b[n:n+run])
			}
			n += run
			f.count += run
			if n < len(b) {
				length := f.count
				if wrong = f.after(b[n], ':', inValue, "a header name"); wrong == nil {
					wrong = f.begin(length)
				}
				n++
			}
		case inValue:
			run := printable(b[n:])
			run += span(b[n+run:], &valueBytes)
			if f.field != fieldOther {
				wrong = f.take(b[n : n+run])
			}
			n += run
			if n < len(b) && wrong == nil {
				if b[n] != '\r' {
					wrong = bad("%q in header line %d", b[n], f.lines)
				}
				n++
				f.state = valueLF
			}
		}
	}
	if f.size += n; f.size > f.limit && wrong == nil {
		wrong = &violation{http.StatusRequestHeaderFieldsTooLarge, fmt.Sprintf("a header of more than %d bytes", f.limit)}
	}
	return n, wrong
}

// after ends an element of a line, which must not be empty, with its delimiter.
func (f *framer) after(c, delimiter byte, next state, what string) *violation {
	if c != delimiter {
		return bad("%q in %s, line %d", c, what, f.lines)
	}
	if f.count == 0 {
		return bad("%s is empty, line %d", what, f.lines)
	}
	f.state, f.count = next, 0
	return nil
}

func (f *framer) version(v []byte) *violation {
	digit := func(c byte) bool { return '0' <= c && c <= '9' }
	if !bytes.HasPrefix(v, []byte("HTTP/")) || !digit(v[5]) || v[6] != '.' || !digit(v[7]) {
		return bad("version %q", v)
	}
	if v[5] != '1' || v[7] > '1' {
		return &violation{http.StatusHTTPVersionNotSupported, fmt.Sprintf("version %q", v)}
	}
	f.minor, f.state = v[7], versionCR
	return nil
}

// lineEnd takes one byte of the two that end a line.
func (f *framer) lineEnd(c byte) *violation {
	if f.state == versionCR {
		f.state = versionLF
		if c != '\r' {
			return bad("%q after the version", c)
		}
		return nil
	}
	if c != '\n' {
		return bad("a carriage return alone, line %d", f.lines)
	}
	switch f.state {
	case endLF:
		return f.end()
	case valueLF:
		f.state = fieldStart
		return f.finish()
	}
	f.state = fieldStart
	return nil
}

var framingFields = [...]struct {
	name  string
	field field
}{{"host", fieldHost}, {"content-length", fieldLength}, {"transfer-encoding", fieldEncoding}, {"expect", fieldExpect}, {"upgrade", fieldUpgrade}}

// begin is called between name and value of a field.
func (f *framer) begin(length int) *violation {
	f.field = fieldOther
	if f.trailer {
		return nil // a trailer frames nothing
	}
	for _, known := range framingFields {
		if length == len(known.name) && strings.EqualFold(string(f.name[:length]), known.name) {
			f.field = known.field
		}
	}
	if f.field == fieldUpgrade {
		f.seen, f.field = f.seen|fieldUpgrade, fieldOther
	}
	if f.seen&f.field != 0 {
		return bad("line %d is a second one of Host, Content-Length, Transfer-Encoding or Expect", f.lines)
	}
	f.seen |= f.field
	f.value[0] = 0
	return nil
}

// take keeps the value of a field that matters. A Host is judged at once, the
// others are short.
func (f *framer) take(run []byte) *violation {
	if f.count == 0 {
		run = bytes.TrimLeft(run, " \t")
	}
	if f.field == fieldHost {
		for _, c := range run {
			switch {
			case c == ' ' || c == '\t':
				f.value[0] = c // the last thing in the line, or inside of it
			case f.value[0] != 0 || !hostBytes[c]:
				return bad("%q in Host", c)
			}
			f.count++
		}
		return nil
	}
	if f.count+len(run) > len(f.value) {
		return bad("line %d is too long for Content-Length, Transfer-Encoding or Expect", f.lines)
	}
	f.count += copy(f.value[f.count:], run)
	return nil
}

// finish judges a field's value.
func (f *framer) finish() *violation {
	if f.field == fieldOther {
		return nil
	}
	value := bytes.TrimRight(f.value[:min(f.count, len(f.value))], " \t")
	switch f.field {
	case fieldHost:
		if f.count == 0 {
			return bad("an empty Host")
		}
	case fieldLength:
		const digits = 18 // less than 1<<63
		if len(value) == 0 || len(value) > digits {
			return bad("Content-Length %q", value)
		}
		for _, c := range value {
			if c < '0' || c > '9' {
				return bad("Content-Length %q", value)
			}
			f.declared = 10*f.declared + uint64(c-'0')
		}
	case fieldEncoding:
		if len(value) == 0 {
			return bad("an empty Transfer-Encoding")
		}
		if !bytes.EqualFold(value, []byte("chunked")) {
			return &violation{http.StatusNotImplemented, fmt.Sprintf("Transfer-Encoding %q", value)}
		}
	case fieldExpect:
		if !bytes.EqualFold(value, []byte("100-continue")) {
			return &violation{http.StatusExpectationFailed, fmt.Sprintf("Expect %q", value)}
		}
	}
	return nil
}

// end judges a head as a whole and says what follows it.
func (f *framer) end() *violation {
	if f.trailer {
		f.state = atStart
		return nil
	}
	chunked := f.seen&fieldEncoding != 0
	switch {
	case f.seen&fieldHost == 0 && f.minor == '1':
		return bad("no Host")
	case chunked && f.seen&fieldLength != 0:
		return bad("Content-Length and Transfer-Encoding")
	case chunked && f.minor == '0':
		return bad("Transfer-Encoding in HTTP/1.0")
	}
	f.complete, f.count, f.left = true, 0, f.declared
	switch {
	case chunked:
		f.state = inSize
		f.left = 0
	case f.left > 0:
		f.state = inBody
	default:
		f.state = atStart
	}
	return nil
}
