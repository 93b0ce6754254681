package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// run accepts connections until drain or close.
func (f *front) run() error {
	var pause time.Duration
	var arrivals sync.WaitGroup
	defer arrivals.Wait()
	for {
		tcp, err := f.listener.AcceptTCP()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			// Out of file descriptors, most likely. It passes.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			f.log.Warn("cannot accept connections", "error", err, "retry_in", pause)
			select {
			case <-time.After(pause):
			case <-f.closing:
				return nil
			}
			continue
		}
		pause = 0
		conn := f.gate.watch(tcp)
		secure := f.tls.Load()
		entered := f.gate.enter(conn)
		if !entered && !f.mayWait(conn) {
			f.gate.turnAway(conn)
			continue
		}
		_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true})
		f.giveUpOnSilent(tcp)
		switch {
		case !entered:
			arrivals.Go(func() {
				if f.waits(conn) {
					f.begin(conn, secure)
				}
			})
		case secure != nil:
			arrivals.Go(func() { f.begin(conn, secure) })
		default:
			f.give(conn)
		}
	}
}

func (f *front) begin(conn net.Conn, secure *tls.Config) {
	if secure != nil {
		f.handshake(tls.Server(conn, secure))
		return
	}
	f.give(conn)
}

// mayWait reports whether conn may wait for a place. The listener itself waits for
// a trusted proxy: there are many clients behind it.
func (f *front) mayWait(conn *watched) bool {
	for !f.gate.wait(conn) {
		if !f.gate.patient(conn) {
			return false
		}
		select {
		case <-time.After(waitingTick):
		case <-f.closing:
			return false
		}
	}
	return true
}

// waits reports whether conn has found a place in time.
func (f *front) waits(conn *watched) bool {
	defer f.gate.waited(conn)
	tick := time.NewTicker(waitingTick)
	defer tick.Stop()
	for late := time.After(waitingTime); ; {
		select {
		case <-tick.C:
			if f.gate.enter(conn) {
				return true
			}
			continue
		case <-late:
		case <-f.closing:
		}
		f.gate.turnAway(conn)
		return false
	}
}

// tellFull is gate.full: it warns once a minute.
func (f *front) tellFull() func(netip.Addr) {
	var told atomic.Int64
	return func(client netip.Addr) {
		before, now := told.Load(), time.Now()
		if now.Sub(time.Unix(0, before)) > time.Minute && told.CompareAndSwap(before, now.UnixNano()) {
			f.log.Warn("no connection is left: some are closed for others", "client", client.String(), "closed", f.gate.closed.Load())
		}
	}
}

// give hands a connection to the server in use.
func (f *front) give(conn net.Conn) {
	select {
	case f.accepted <- conn:
	case <-f.closing:
		_ = conn.Close()
	}
}

// handshake is done here and not by the server because the guard's place is
// between TLS and HTTP/1, and only then is it known which HTTP it will be.
func (f *front) handshake(conn *tls.Conn) {
	f.mu.Lock()
	timeout := f.limits.header
	f.mu.Unlock()
	ctx := f.arriving
	if timeout > 0 {
		limited, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		ctx = limited
	}
	err := conn.HandshakeContext(ctx)
	if err == nil {
		f.give(conn)
		return
	}
	f.log.Debug("TLS handshake failed", "client", conn.RemoteAddr().String(), "error", err)
	var record tls.RecordHeaderError
	if errors.As(err, &record) && record.Conn != nil && plainHTTP[string(record.RecordHeader[:])] {
		_ = record.Conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = io.WriteString(record.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
	}
	_ = conn.Close()
}

// plainHTTP is how a request begins where a TLS record should.
var plainHTTP = map[string]bool{"GET /": true, "HEAD ": true, "POST ": true, "PUT /": true, "OPTIO": true}
