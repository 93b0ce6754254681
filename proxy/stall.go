package proxy

import (
	"net/http"
	"sync"
	"time"
)

// A stall ends an HTTP/2 exchange whose client does not take one piece of the answer,
// of 32 KiB at most, within limits.idle_timeout. On HTTP/1 the system looks after
// that. Here the connection is alive, and this stream's window is shut (RFC 9113,
// section 5.2). The zero value is ready.
type stall struct {
	mu      sync.Mutex
	writing bool
	timer   *time.Timer
}

// patience is how long a client of HTTP/2 may take nothing; 0 is for ever, or
// another protocol.
func (x *exchange) patience() time.Duration {
	if x.request.ProtoMajor != 2 {
		return 0
	}
	return x.snapshot.config.Limits.IdleTimeout
}

// begin is called before what may have to wait for the client, end after it.
func (s *stall) begin(x *exchange, patience time.Duration) {
	s.mu.Lock()
	s.writing = true
	s.mu.Unlock()
	if s.timer == nil {
		s.timer = time.AfterFunc(patience, x.stalled)
	} else {
		s.timer.Reset(patience)
	}
}

func (s *stall) end() {
	s.timer.Stop()
	s.mu.Lock()
	s.writing = false
	s.mu.Unlock()
}

// stalled resets the stream. Nothing may be asked of a net/http answer whose
// handler has returned, which cannot be while it writes.
func (x *exchange) stalled() {
	x.stall.mu.Lock()
	defer x.stall.mu.Unlock()
	if x.stall.writing {
		_ = http.NewResponseController(x.ResponseWriter).SetWriteDeadline(time.Unix(1, 0))
	}
}

// letGo has net/http wait no longer for the client, with what is left of the answer
// when the handler returns.
func (x *exchange) letGo() {
	if patience := x.patience(); patience > 0 && x.bytes.Load() > 0 && x.request.Context().Err() == nil {
		_ = http.NewResponseController(x.ResponseWriter).SetWriteDeadline(time.Now().Add(patience))
	}
}
