package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gatehouse/authn"
	"gatehouse/config"
	"gatehouse/proxy"
)

// listen opens a TCP address of the configuration.
func listen(cfg *config.Config, key, address string) (*net.TCPListener, error) {
	return listenBy(net.ListenConfig{}, cfg, key, address)
}

// listenToPublic is listen, but that keep-alive is for [front.run] to ask for: for a
// connection that is turned away at once it would be four system calls for nothing,
// and in a flood of those everybody waits for them.
func listenToPublic(cfg *config.Config) (*net.TCPListener, error) {
	return listenBy(net.ListenConfig{KeepAlive: -1}, cfg, "listen", cfg.Listen)
}

func listenBy(how net.ListenConfig, cfg *config.Config, key, address string) (*net.TCPListener, error) {
	l, err := how.Listen(context.Background(), "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		p := cfg.Problem(key, "%s %q: the port is in use", key, address)
		p.Hint = "another program, perhaps another gatehouse, listens there"
		return nil, p
	}
	if err != nil {
		return nil, cfg.Problem(key, "%s %q: %v", key, address, err)
	}
	return l.(*net.TCPListener), nil
}

// A front is the public listener and everything that was accepted from it. It
// outlives configurations: [front.use] says how connections are served that
// arrive from now on.
//
// # Why
//
// http.Server reads its limits whenever it likes, so they cannot be changed
// while it runs. A configuration with other limits gets another http.Server,
// fed from the same listener, and the connections of the one before stay with
// it until they end. Then it is forgotten.
type front struct {
	listener *net.TCPListener
	handler  frontHandler
	log      *slog.Logger
	guard    *proxy.Guard // of HTTP/1 connections

	accepted chan net.Conn
	closing  chan struct{}   // closed when no connection is accepted any more
	arriving context.Context // of TLS handshakes; ends with closing
	stop     context.CancelFunc
	tls      atomic.Pointer[tls.Config] // nil: plain HTTP/1.1
	gate     gate

	base context.Context // of every request
	cut  context.CancelFunc

	mu      sync.Mutex
	limits  serverLimits
	tap     *tap
	servers []*limited
	serving sync.WaitGroup

	requests atomic.Int64 // that are being answered, upgraded connections included
	quiet    atomic.Bool  // set once no request can begin any more
	idle     chan struct{}
	onIdle   func()
}

// A frontHandler answers requests, and refuses those that the front cannot take.
type frontHandler interface {
	http.Handler
	Refuse(w http.ResponseWriter, r *http.Request, err error)
}

// serverLimits are what connections are served with.
type serverLimits struct {
	header, idle time.Duration
	bytes        int
}

// A limited is an http.Server with the limits of one configuration. front.mu
// guards its fields.
type limited struct {
	*http.Server
	open  int  // connections
	ended bool // it gets no more of them
}

func newFront(l *net.TCPListener, handler frontHandler, guard *proxy.Guard) *front {
	f := &front{listener: l, handler: handler, log: guard.Log, guard: guard,
		accepted: make(chan net.Conn), closing: make(chan struct{}), idle: make(chan struct{})}
	f.base, f.cut = context.WithCancel(context.Background())
	f.arriving, f.stop = context.WithCancel(context.Background())
	f.onIdle = sync.OnceFunc(func() { close(f.idle) })
	f.gate.full, f.gate.owes, f.gate.gateTimes = f.tellFull(), guard.Pace.Owes, usualTimes
	return f
}

// use serves connections that are accepted from now on as cfg says, most of them
// at once (0: any number); certificates is nil for plain HTTP.
func (f *front) use(cfg *config.Config, most int, certificates *tls.Config) {
	f.tls.Store(certificates)
	f.gate.limit(most, cfg.TrustedProxies)
	limits := serverLimits{cfg.Limits.HeaderTimeout, cfg.Limits.IdleTimeout, cfg.Limits.HeaderBytes}

	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tap != nil && f.limits == limits {
		return
	}
	// HTTP/2 only where TLS negotiated it. To net/http it is unencrypted, because the
	// guard is around the TLS; on a plain connection the guard's grammar refuses it.
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &limited{}
	server.Server = &http.Server{
		Handler:                      f,
		ReadHeaderTimeout:            limits.header,
		MaxHeaderBytes:               limits.bytes,
		DisableGeneralOptionsHandler: true, // OPTIONS * is the gateway's to answer and to log
		Protocols:                    protocols,
		HTTP2:                        http2Limits(limits.idle),
		ConnContext:                  withPatience,
		ErrorLog:                     errorLog(f.log),
		BaseContext:                  func(net.Listener) context.Context { return f.base },
		ConnState: func(conn net.Conn, state http.ConnState) {
			proxy.GuardState(conn, state)
			f.gate.changes(watchedBelow(conn), state)
			f.count(server, state)
		},
	}
	next := &tap{from: f, server: server.Server, limits: limits, done: make(chan struct{})}
	f.serving.Go(func() {
		_ = server.Serve(next) // ends with its tap
		f.mu.Lock()
		defer f.mu.Unlock()
		server.ended = true
		f.forget()
	})
	if f.tap != nil {
		_ = f.tap.Close()
	}
	f.tap, f.limits = next, limits
	f.servers = append(f.servers, server)
}

// count keeps server.open. An upgraded connection is no longer the server's.
func (f *front) count(server *limited, state http.ConnState) {
	change := 0
	switch state {
	case http.StateNew:
		change = 1
	case http.StateClosed, http.StateHijacked:
		change = -1
	default:
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	server.open += change
	f.forget()
}

// forget drops the servers that have nothing to do any more. The caller holds
// f.mu.
func (f *front) forget() {
	f.servers = slices.DeleteFunc(f.servers, func(s *limited) bool { return s.ended && s.open == 0 })
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.requests.Add(1)
	defer func() {
		if f.requests.Add(-1) == 0 && f.quiet.Load() {
			f.onIdle()
		}
	}()
	if r.ProtoMajor == 2 {
		f.serveHTTP2(w, r)
		return
	}
	f.answer(w, r)
}

func (f *front) answer(w http.ResponseWriter, r *http.Request) {
	if f.gate.refusing.Load() > 0 {
		guarded := r.Context().Value(patienceKey{}).(*patience).conn
		conn := watchedBelow(guarded)
		if conn.standing.Load() != served {
			switch f.gate.begin(conn) { // others may have ended meanwhile
			case crowded:
				if f.guard.Drops(guarded) {
					panic(http.ErrAbortHandler)
				}
				f.handler.Refuse(w, r, authn.ErrBusy.Because(errCrowded).After(time.Second))
				return
			case evicted: // nobody would read the answer
				panic(http.ErrAbortHandler)
			}
		}
	}
	f.handler.ServeHTTP(w, r)
}

var errCrowded = errors.New("the client's requests have as many connections as are left for others")

// drain accepts no more and waits until every request is answered and every
// upgraded connection has ended, or until ctx ends.
func (f *front) drain(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, s := range f.stopAccepting() {
		s.SetKeepAlivesEnabled(false)
		wg.Go(func() { _ = s.Shutdown(ctx) }) // its error is that of ctx
	}
	wg.Wait()
	if ctx.Err() == nil {
		// Shutdown knows nothing of upgraded connections.
		f.quiet.Store(true)
		if f.requests.Load() == 0 {
			f.onIdle()
		}
		select {
		case <-f.idle:
		case <-ctx.Done():
		}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%d requests did not end in time", f.requests.Load())
	}
	return nil
}

// close ends every connection that is left, upgraded ones by their request's
// context, and waits a moment for the handlers to notice.
func (f *front) close() {
	servers := f.stopAccepting()
	f.cut()
	for _, s := range servers {
		_ = s.Close()
	}
	f.quiet.Store(true)
	if f.requests.Load() == 0 {
		f.onIdle()
	}
	select {
	case <-f.idle:
	case <-time.After(time.Second):
	}
	f.serving.Wait()
}

// stopAccepting returns the servers that still have connections to end.
func (f *front) stopAccepting() []*limited {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.closing:
	default:
		close(f.closing)
		f.stop()
		_ = f.listener.Close()
		f.gate.close()
	}
	return slices.Clone(f.servers)
}

// A tap is the listener of one http.Server. It gives what the front accepts,
// guarded.
type tap struct {
	from   *front
	server *http.Server
	limits serverLimits
	begun  bool
	done   chan struct{}
	once   sync.Once
}

func (t *tap) Accept() (net.Conn, error) {
	if !t.begun {
		// HTTP/2 has taken the server's limits by now. Its connections are ended by the
		// guard.
		t.begun, t.server.IdleTimeout = true, t.limits.idle
	}
	select {
	case conn := <-t.from.accepted:
		return t.from.guard.Conn(conn, t.limits.bytes, t.limits.idle), nil
	case <-t.done:
		return nil, net.ErrClosed
	case <-t.from.closing:
		return nil, net.ErrClosed
	}
}

func (t *tap) Close() error {
	t.once.Do(func() { close(t.done) })
	return nil
}

func (t *tap) Addr() net.Addr { return t.from.listener.Addr() }
