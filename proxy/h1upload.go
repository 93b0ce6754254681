package proxy

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync"
	"time"
)

const (
	// continueTimeout is how long an upstream may take to say 100 Continue;
	// then the body is sent without it (RFC 9110, section 10.1.1).
	continueTimeout = time.Second
	// lastWords is how long the answer of an upstream may take that has
	// stopped reading the request.
	lastWords = time.Second
	// chunkRoom is for a chunk's size, up to 8000 hex, and a line end.
	chunkRoom = 4 + 2
)

// h1Upload sends the body of a request while its answer is awaited and read.
type h1Upload struct {
	exchange *h1Exchange
	body     io.ReadCloser
	length   int64 // -1: chunked
	trailer  http.Header
	proceed  chan bool // whether the body is wanted; nil: it is not asked

	mu   sync.Mutex
	over bool // there is an answer: from here on both sides may take their time
	err  error
}

func newH1Upload(x *h1Exchange, out *h1Outgoing) *h1Upload {
	u := &h1Upload{exchange: x, body: out.request.Body, length: out.length, trailer: out.request.Trailer}
	if out.waits {
		u.proceed = make(chan bool, 1)
	}
	return u
}

func (u *h1Upload) run() {
	sent := u.send()
	u.body.Close()
	u.exchange.leave(sent)
}

// send reports whether all of the body was sent.
func (u *h1Upload) send() bool {
	if u.proceed != nil && !u.wanted() {
		return false
	}
	buf := buffers.Get()
	defer buffers.Put(buf)
	var err error
	if u.length < 0 {
		err = u.chunks(buf)
	} else {
		err = u.counted(buf)
	}
	if err != nil {
		u.fail(err)
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if timeout := u.exchange.conn.transport.timeout; timeout > 0 && !u.over {
		u.exchange.conn.wire.SetReadDeadline(time.Now().Add(timeout))
	}
	return true
}

// wanted waits for a 100 Continue.
func (u *h1Upload) wanted() bool {
	timer := time.NewTimer(continueTimeout)
	defer timer.Stop()
	select {
	case yes := <-u.proceed:
		return yes
	case <-timer.C:
		return true
	}
}

// decide says whether the body is wanted. The first word counts.
func (u *h1Upload) decide(wanted bool) {
	select {
	case u.proceed <- wanted:
	default:
	}
}

// counted sends a body of known length.
func (u *h1Upload) counted(buf []byte) error {
	for left := u.length; ; {
		n, err := u.body.Read(buf)
		if int64(n) > left {
			return &clientBodyError{fmt.Errorf("longer than its Content-Length %d", u.length)}
		}
		left -= int64(n)
		if n > 0 {
			if err := u.write(buf[:n]); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF && left > 0:
			return &clientBodyError{fmt.Errorf("%d bytes short of its Content-Length %d: %w", left, u.length, io.ErrUnexpectedEOF)}
		case err == io.EOF:
			return nil
		case err != nil:
			return &clientBodyError{err}
		}
	}
}

// chunks sends a body of unknown length, a chunk for what each read gives.
func (u *h1Upload) chunks(buf []byte) error {
	for {
		n, err := u.body.Read(buf[chunkRoom : len(buf)-2])
		if n > 0 {
			if err := u.write(chunk(buf, n)); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF:
			last, err := appendFields(append(buf[:0], "0\r\n"...), u.trailer)
			if err != nil {
				return &clientBodyError{err}
			}
			return u.write(append(last, "\r\n"...))
		case err != nil:
			return &clientBodyError{err}
		}
	}
}

// chunk frames the n bytes behind chunkRoom, in buf, so that one write sends it.
func chunk(buf []byte, n int) []byte {
	var digits [chunkRoom]byte
	size := append(strconv.AppendInt(digits[:0], int64(n), 16), "\r\n"...)
	from := chunkRoom - len(size)
	copy(buf[from:], size)
	return append(buf[from:chunkRoom+n], "\r\n"...)
}

// write sends a piece of the body. The upstream may take the timeout to read it.
func (u *h1Upload) write(b []byte) error {
	c := u.exchange.conn
	if timeout := c.transport.timeout; timeout > 0 {
		u.mu.Lock()
		if !u.over {
			c.wire.SetWriteDeadline(time.Now().Add(timeout))
		}
		u.mu.Unlock()
	}
	_, err := c.Write(b)
	if err != nil && u.exchange.late(err) {
		return errStalled
	}
	return err
}

// fail notes why the body was not sent. Unless the upstream has stopped reading,
// there is no sense in an answer.
func (u *h1Upload) fail(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.err = err
	_, broken := err.(*clientBodyError)
	switch {
	case broken || err == errStalled:
		u.exchange.conn.wire.Close()
	case !u.over:
		u.exchange.conn.wire.SetReadDeadline(time.Now().Add(lastWords))
	}
}

// failure is why the body was not sent, if it was not.
func (u *h1Upload) failure() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.err
}

// answered notes that the header of the answer is there, or that none will come.
func (u *h1Upload) answered() {
	if u.proceed != nil {
		u.decide(false)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.over = true
	u.exchange.conn.wire.SetDeadline(time.Time{})
}
