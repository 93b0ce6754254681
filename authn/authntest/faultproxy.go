package authntest

import (
	"net"
	"sync"
	"testing"
	"time"
)

// Faults are what a network does to what passes through it. The zero value is
// one that is well.
type Faults struct {
	Delay   time.Duration // of each answer
	Dropped bool          // swallow everything, close nothing
	Reset   bool          // end what is there and what comes
	Rubbish string        // comes instead of what the server answers
	Shifted bool          // answer each question with the answer to the one before
}

// A FaultProxy stands between clients and a server, and does what networks do.
type FaultProxy struct {
	listener net.Listener
	target   string

	mu      sync.Mutex
	faults  Faults
	changed chan struct{} // closed by the next Set
	conns   map[net.Conn]bool
	running sync.WaitGroup
}

// StartFaultProxy passes on to target, a HOST:PORT, until the test ends.
func StartFaultProxy(t testing.TB, target string) *FaultProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &FaultProxy{listener: l, target: target, changed: make(chan struct{}), conns: map[net.Conn]bool{}}
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
		p.Set(Faults{Reset: true})
		p.running.Wait()
	})
	return p
}

// Addr is where it listens.
func (p *FaultProxy) Addr() string { return p.listener.Addr().String() }

// Set has f happen to all connections from now on, and nothing else.
func (p *FaultProxy) Set(f Faults) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = f
	close(p.changed)
	p.changed = make(chan struct{})
	if f.Reset {
		for c := range p.conns {
			reset(c)
		}
	}
}

func (p *FaultProxy) now() (Faults, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.faults, p.changed
}

func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	c.Close()
}

func (p *FaultProxy) track(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.faults.Reset {
		reset(c)
		return false
	}
	p.conns[c] = true
	return true
}

func (p *FaultProxy) untrack(c net.Conn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

func (p *FaultProxy) serve(client net.Conn) {
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

// copy passes on what comes, after the faults of that time.
func (p *FaultProxy) copy(to, from net.Conn, answers bool) {
	buf := make([]byte, 64<<10)
	var held []byte // the answer before
	for {
		n, err := from.Read(buf)
		if n > 0 {
			data := append([]byte(nil), buf[:n]...)
			if !p.wait(answers) {
				return
			}
			f, _ := p.now()
			if answers && f.Rubbish != "" {
				data = []byte(f.Rubbish)
			}
			if answers && f.Shifted {
				data, held = held, data
				if data == nil {
					data = held // the first one comes twice
				}
			}
			if _, err := to.Write(data); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// wait holds data back as long as the network is down, or slow. It reports
// whether the connection goes on.
func (p *FaultProxy) wait(answers bool) bool {
	f, changed := p.now()
	switch {
	case f.Reset:
		return false
	case f.Dropped:
		<-changed
		return false // what was in flight is lost, and so is the connection
	case f.Delay > 0 && answers:
		select {
		case <-time.After(f.Delay):
		case <-changed:
		}
	}
	return true
}
