package proxy

import "fmt"

// A chunked body, in its one spelling:
//
//	body      = *(size *extension CRLF size-bytes CRLF) 1*"0" *extension CRLF *field CRLF
//	size      = 1*16HEXDIG
//	extension = ";" token ["=" (token | quoted-string)]
//
// No space, no sign, no `0x`: what one parser skips another one counts.

const (
	maxSizeDigits = 16
	maxExtensions = 256 // bytes of a line; nobody is known to need any
	maxChunk      = 1 << 62
)

// counted takes bytes of a body or a chunk, at most n.
func (f *framer) counted(n int) int {
	if uint64(n) < f.left {
		f.left -= uint64(n)
		return n
	}
	n = int(f.left)
	f.left = 0
	if f.state == inBody {
		f.state = atStart
	} else {
		f.state = chunkCR
	}
	return n
}

// chunkLine follows what stands between the data of chunks.
func (f *framer) chunkLine(b []byte) (n int, wrong *violation) {
	for n < len(b) && wrong == nil {
		c := b[n]
		n++
		if f.state >= extName && f.state <= extQuotedEnd {
			if f.count++; f.count > maxExtensions {
				return n, bad("a chunk extension of more than %d bytes", maxExtensions)
			}
		}
		switch f.state {
		case inSize:
			wrong = f.sizeByte(c)
		case extName, extToken:
			if !tokenBytes[c] {
				wrong = f.extensionEnd(c)
			} else {
				f.empty = false
			}
		case extEquals:
			switch {
			case c == '"':
				f.state = extQuoted
			case tokenBytes[c]:
				f.state, f.empty = extToken, false
			default:
				wrong = badChunk(c, "a chunk extension")
			}
		case extQuoted:
			switch {
			case c == '"':
				f.state = extQuotedEnd
			case c == '\\':
				f.state = extEscape
			case !valueBytes[c]:
				wrong = badChunk(c, "a chunk extension")
			}
		case extEscape:
			f.state = extQuoted
			if !valueBytes[c] {
				wrong = badChunk(c, "a chunk extension")
			}
		case extQuotedEnd:
			f.empty = false
			wrong = f.extensionEnd(c)
		case sizeLF:
			if c != '\n' {
				return n, badChunk(c, "the end of a chunk size")
			}
			f.count = 0
			if f.left > 0 {
				f.state = inChunk
			} else {
				f.state, f.trailer, f.size, f.lines = fieldStart, true, 0, 0
			}
			return n, nil
		case chunkCR:
			f.state = chunkLF
			if c != '\r' {
				wrong = badChunk(c, "the end of a chunk")
			}
		case chunkLF:
			f.state = inSize
			if c != '\n' {
				wrong = badChunk(c, "the end of a chunk")
			}
		}
	}
	return n, wrong
}

func (f *framer) sizeByte(c byte) *violation {
	var digit byte
	switch l := lower(c); {
	case '0' <= c && c <= '9':
		digit = c - '0'
	case 'a' <= l && l <= 'f':
		digit = l - 'a' + 10
	case f.count == 0:
		return badChunk(c, "a chunk size")
	case c == '\r':
		f.state = sizeLF
		return nil
	case c == ';':
		f.state, f.count, f.empty = extName, 0, true
		return nil
	default:
		return badChunk(c, "a chunk size")
	}
	if f.count++; f.count > maxSizeDigits {
		return bad("a chunk size of more than %d digits", maxSizeDigits)
	}
	if f.left = f.left<<4 | uint64(digit); f.left >= maxChunk {
		return bad("a chunk of %#x bytes", f.left)
	}
	return nil
}

// extensionEnd ends a name or a value of an extension.
func (f *framer) extensionEnd(c byte) *violation {
	switch {
	case f.empty:
	case c == '\r':
		f.state = sizeLF
		return nil
	case c == ';':
		f.state, f.empty = extName, true
		return nil
	case c == '=' && f.state == extName:
		f.state, f.empty = extEquals, true
		return nil
	}
	return badChunk(c, "a chunk extension")
}

func badChunk(c byte, where string) *violation {
	return bad("%s in %s", fmt.Sprintf("%q", c), where)
}
