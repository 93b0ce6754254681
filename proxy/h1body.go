package proxy

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
)

// h1Body is the body of an answer. The connection is free again when it has been
// read to its end, and closed when it is closed before. Close may be called while
// another goroutine reads.
type h1Body struct {
	exchange *h1Exchange
	response *http.Response // its trailers are known at the end
	left     int64          // bytes; -1: until the last chunk, or the connection's end
	chunks   io.Reader      // nil: it does not come in chunks
	reusable bool           // the connection, when all has been read
	err      error          // of all reads from now on
	over     atomic.Bool    // the exchange is done: by Read or by Close, whoever is first
}

var errReadAfterClose = errors.New("read on closed response body")

func (b *h1Body) Read(p []byte) (int, error) {
	switch {
	case b.err != nil:
		return 0, b.err
	case b.over.Load():
		return 0, errReadAfterClose
	case len(p) == 0:
		return 0, nil
	}
	n, err := b.read(p)
	if err == nil {
		return n, nil
	}
	if !b.over.CompareAndSwap(false, true) {
		b.err = errReadAfterClose
		return n, b.err
	}
	if err == io.EOF {
		b.exchange.leave(b.reusable)
	} else {
		err = b.exchange.reason(err)
		b.exchange.abort()
	}
	b.err = err
	return n, err
}

func (b *h1Body) read(p []byte) (n int, err error) {
	in := b.exchange.conn.in
	switch {
	case b.chunks != nil:
		n, err = b.chunks.Read(p)
		if err == io.EOF {
			if err = b.exchange.readTrailer(b.response); err == nil {
				err = io.EOF
			}
		}
		return n, err
	case b.left < 0:
		return in.Read(p)
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err = in.Read(p)
	switch b.left -= int64(n); {
	case b.left == 0:
		return n, io.EOF
	case err == io.EOF:
		return n, io.ErrUnexpectedEOF
	}
	return n, err
}

func (b *h1Body) Close() error {
	if b.over.CompareAndSwap(false, true) {
		b.exchange.abort()
	}
	return nil
}

// h1Upgraded is the connection behind a 101, as ReverseProxy wants it: both
// directions, each of which may end alone.
type h1Upgraded struct {
	conn  *h1Conn
	early *bufio.Reader // what came with the 101; nil when it has been read
}

func (u *h1Upgraded) Read(p []byte) (int, error) {
	if u.early != nil {
		if n := u.early.Buffered(); n > 0 {
			return u.early.Read(p[:min(n, len(p))])
		}
		// It would stay as long as the stream.
		u.early.Reset(nil)
		readers.Put(u.early)
		u.early, u.conn.in = nil, nil
	}
	return u.conn.Read(p)
}

func (u *h1Upgraded) Write(p []byte) (int, error) { return u.conn.Write(p) }

// CloseWrite tells the upstream that nothing more will come.
func (u *h1Upgraded) CloseWrite() error {
	if half, ok := u.conn.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Close ends both directions.
func (u *h1Upgraded) Close() error {
	u.conn.close()
	return nil
}
