package redisstore

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// A faultProxy stands between a log and its server, and does what networks do.
type faultProxy struct {
	listener net.Listener
	target   string

	mu      sync.Mutex
	delay   time.Duration
	dropped bool   // swallow everything, close nothing
	refused bool   // close what comes, and what is there
	rubbish string // instead of the server's next answer, on each connection
	shift   bool   // answer each question with the answer to the one before
	changed chan struct{}
	conns   map[net.Conn]bool
	running sync.WaitGroup
}

func startProxy(t testing.TB, target string) *faultProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &faultProxy{listener: l, target: target, changed: make(chan struct{}), conns: map[net.Conn]bool{}}
	p.running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.running.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.set(func() { p.refused, p.dropped, p.delay = true, false, 0 })
		p.running.Wait()
	})
	return p
}

func (p *faultProxy) url() string { return "redis://" + p.listener.Addr().String() }

// set changes what happens to all connections from now on.
func (p *faultProxy) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	close(p.changed)
	p.changed = make(chan struct{})
	if p.refused {
		for c := range p.conns {
			c.Close()
		}
	}
}

// heal undoes every fault.
func (p *faultProxy) heal() {
	p.set(func() { p.delay, p.dropped, p.refused, p.rubbish, p.shift = 0, false, false, "", false })
}

func (p *faultProxy) track(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refused {
		c.Close()
		return false
	}
	p.conns[c] = true
	return true
}

func (p *faultProxy) untrack(c net.Conn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

func (p *faultProxy) serve(client net.Conn) {
	if !p.track(client) {
		return
	}
	defer p.untrack(client)
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	if !p.track(server) {
		return
	}
	defer p.untrack(server)
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.copy(server, client, false)
		server.Close()
	}()
	p.copy(client, server, true)
	client.Close()
	<-done
}

// copy passes on what comes, after what is set at that time.
func (p *faultProxy) copy(to, from net.Conn, answers bool) {
	buf := make([]byte, 64<<10)
	var held []byte // the answer before
	for {
		n, err := from.Read(buf)
		if n > 0 {
			data := append([]byte(nil), buf[:n]...)
			if !p.wait(answers) {
				return
			}
			p.mu.Lock()
			if answers && p.rubbish != "" {
				data = []byte(p.rubbish)
			}
			if answers && p.shift {
				data, held = held, data
				if data == nil {
					data = held // the first one comes twice
				}
			}
			p.mu.Unlock()
			if _, err := to.Write(data); err != nil {
				return
			}
		}
		if err != nil {
			if err != io.EOF {
				return
			}
			return
		}
	}
}

// wait holds data back as long as the network is down, or slow.
func (p *faultProxy) wait(answers bool) bool {
	for {
		p.mu.Lock()
		dropped, refused, delay, changed := p.dropped, p.refused, p.delay, p.changed
		p.mu.Unlock()
		switch {
		case refused:
			return false
		case dropped:
			<-changed
			return false // what was in flight is lost, and so is the connection
		case delay > 0 && answers:
			select {
			case <-time.After(delay):
			case <-changed:
			}
			return true
		default:
			return true
		}
	}
}
