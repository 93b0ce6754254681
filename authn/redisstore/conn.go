package redisstore

import (
	"errors"
	"net"
	"strconv"
	"syscall"
)

// maxReply is the longest text that a server may announce in a reply. A page
// of the set is a thousandth of it.
const maxReply = 64 << 20

var errLongReply = errors.New("redis: the server announced a text of more than 64 MiB")

// boundedConn reads along and ends the connection where the server announces a
// text of unreasonable length: go-redis makes room for whatever is announced.
type boundedConn struct {
	net.Conn
	line []byte // the header line that is being read
	skip int    // bytes of a text that follow
}

func bounded(c net.Conn) net.Conn {
	b := &boundedConn{Conn: c}
	if s, ok := c.(syscall.Conn); ok {
		return &boundedSocket{b, s}
	}
	return b
}

// boundedSocket lets the pool see whether an idle connection was closed.
type boundedSocket struct {
	*boundedConn
	syscall.Conn
}

func (b *boundedConn) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	for rest := p[:n]; len(rest) > 0; {
		if b.skip > 0 {
			skipped := min(b.skip, len(rest))
			b.skip -= skipped
			rest = rest[skipped:]
			continue
		}
		c := rest[0]
		rest = rest[1:]
		if c != '\n' {
			if len(b.line) < 32 { // a length is shorter
				b.line = append(b.line, c)
			}
			continue
		}
		if !b.header() {
			return 0, errLongReply
		}
		b.line = b.line[:0]
	}
	return n, err
}

// header reads one line of the protocol: those of texts and lists name a length.
func (b *boundedConn) header() bool {
	if len(b.line) == 0 {
		return true
	}
	kind := b.line[0]
	switch kind {
	case '$', '=', '!', '*', '%', '~', '>':
	default:
		return true
	}
	digits := b.line[1:]
	if k := len(digits); k > 0 && digits[k-1] == '\r' {
		digits = digits[:k-1]
	}
	length, err := strconv.ParseInt(string(digits), 10, 64)
	if err != nil || length > maxReply {
		return false
	}
	if (kind == '$' || kind == '=' || kind == '!') && length >= 0 {
		b.skip = int(length) + 2 // and its line end
	}
	return true
}
