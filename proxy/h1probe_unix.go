//go:build unix

package proxy

import (
	"io"
	"os"
	"syscall"
)

// peeker reads from a socket without waiting. Its buffer and its results are
// fields so that a look costs no memory.
type peeker struct {
	raw  syscall.RawConn
	look func(fd uintptr) bool
	buf  []byte
	n    int
	err  error
}

func newPeeker(conn syscall.Conn) (*peeker, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	p := &peeker{raw: raw}
	p.look = func(fd uintptr) bool {
		p.n, p.err = syscall.Read(int(fd), p.buf)
		return true
	}
	return p, nil
}

// read is what is there, io.EOF, or os.ErrDeadlineExceeded if there is nothing
// yet, which crypto/tls takes for an error that passes.
func (p *peeker) read(b []byte) (int, error) {
	p.buf = b
	err := p.raw.Read(p.look)
	p.buf = nil
	switch {
	case err != nil:
		return 0, err
	case p.err == syscall.EAGAIN || p.err == syscall.EINTR:
		return 0, os.ErrDeadlineExceeded
	case p.err != nil:
		return 0, os.NewSyscallError("read", p.err)
	case p.n == 0:
		return 0, io.EOF
	}
	return p.n, nil
}
