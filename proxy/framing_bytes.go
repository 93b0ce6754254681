package proxy

import (
	"encoding/binary"

	"golang.org/x/net/http/httpguts"
)

// Bytes that an element may hold.
var tokenBytes, targetBytes, valueBytes, hostBytes = func() (token, target, value, host [256]bool) {
	for i := range 256 {
		c := byte(i)
		token[c] = httpguts.IsTokenRune(rune(c))
		target[c] = c > ' ' && c != 0x7f
		value[c] = target[c] || c == ' ' || c == '\t'
		host[c] = httpguts.ValidHostHeader(string(rune(c))) && c < 0x80
	}
	return token, target, value, host
}()

// span is how many bytes at the beginning of b are of a kind.
func span(b []byte, kind *[256]bool) int {
	for i, c := range b {
		if !kind[c] {
			return i
		}
	}
	return len(b)
}

// printable is how many bytes at the beginning of b, eight at a time, are none of
// the control characters: most of a head is values.
func printable(b []byte) (n int) {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	for ; len(b)-n >= 8; n += 8 {
		w := binary.LittleEndian.Uint64(b[n:])
		del := w ^ 0x7f*ones
		if ((w-0x20*ones)&^w|(del-ones)&^del)&tops != 0 {
			break
		}
	}
	return n
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
