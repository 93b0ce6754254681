package proxy

import (
	"bufio"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse/authn"
)

// streamKind is what makes an exchange a stream.
type streamKind int

const (
	notAStream streamKind = iota
	streamWebsocket
	streamEvents
	streamGRPC
	streamLong  // open for longAfter
	streamKinds = iota
)

var streamNames = [streamKinds]string{"", "websocket", "events", "grpc", "long"}

const (
	longAfter   = 10 * time.Second
	lookForLong = 250 * time.Millisecond
	// farewell bounds what is said to a client that does not read.
	farewell = 250 * time.Millisecond
	// linger is how long a client may take to hang up after a close frame. A
	// connection that is closed with something unread is reset, and a reset
	// can overtake the frame.
	linger = 500 * time.Millisecond
)

// streams are the exchanges that are open: those that end with their identity
// are watched, all are counted. They belong to the gateway, not to a snapshot:
// a reload leaves them alone.
//
// # Why
//
// An ordinary request pays for two short locks and no memory here. It is in
// the list of young exchanges of one shard, oldest first, until it is over, or
// turns out to be a stream, or grows old.
type streams struct {
	watch   *authn.Watch // nil: nothing is ended
	metrics *streamMetrics
	old     time.Duration // longAfter, unless a test is in a hurry
	shards  [16]streamShard
}

type streamShard struct {
	mu             sync.Mutex // guards the list and every exchange's place in it
	oldest, newest *exchange
	_              [40]byte // a cache line of its own
}

// streamPlace is where an exchange stands. It is guarded by its shard's mutex.
type streamPlace struct {
	shard          *streamShard // nil: it was never forwarded
	older, younger *exchange
	young          bool
	stream         *stream // nil: it is none yet
}

// A stream is a long-lived exchange.
type stream struct {
	authn.Watched
	kind    streamKind
	counted *streamMetrics
	cancel  context.CancelFunc // nil: it does not end with its identity

	mu       sync.Mutex
	exchange *exchange     // nil when its handler has returned
	conn     *upgradedConn // of a websocket
	why      *authn.Refusal
}

var errEnded = errors.New("the stream was ended")

// enter notes that x is forwarded from now on. The context is that of the
// upstream's request.
func (ss *streams) enter(ctx context.Context, x *exchange) context.Context {
	if rt := x.decision.Route; ss.watch != nil && x.decision.Identity != nil && (rt.Streams.CloseOnRevoke || rt.Streams.CloseOnExpiry) {
		ctx, x.cancel = context.WithCancel(ctx)
	}
	x.streams = ss
	sh := &ss.shards[rand.Uint32N(uint32(len(ss.shards)))]
	p := &x.place
	sh.mu.Lock()
	defer sh.mu.Unlock()
	p.shard, p.young = sh, true
	if p.older = sh.newest; p.older != nil {
		p.older.place.younger = x
	} else {
		sh.oldest = x
	}
	sh.newest = x
	return ctx
}

// unlink takes x out of the list of young exchanges. The caller holds mu.
func (sh *streamShard) unlink(x *exchange) {
	p := &x.place
	if !p.young {
		return
	}
	if p.older != nil {
		p.older.place.younger = p.younger
	} else {
		sh.oldest = p.younger
	}
	if p.younger != nil {
		p.younger.place.older = p.older
	} else {
		sh.newest = p.older
	}
	p.older, p.younger, p.young = nil, nil, false
}

// opened notes that x is a stream. A conn comes with a websocket only.
func (x *exchange) opened(kind streamKind, conn *upgradedConn) {
	if kind == notAStream || x.place.shard == nil {
		return
	}
	sh := x.place.shard
	sh.mu.Lock()
	defer sh.mu.Unlock()
	x.streams.open(x, kind, conn)
}

// open makes x a stream, or another kind of stream. The caller holds the mutex of x's shard.
func (ss *streams) open(x *exchange, kind streamKind, conn *upgradedConn) {
	p := &x.place
	if st := p.stream; st != nil {
		// It grew old before its answer came.
		ss.metrics.open[st.kind].Dec()
		ss.metrics.open[kind].Inc()
		st.kind = kind
		st.mu.Lock()
		st.conn = conn
		st.mu.Unlock()
		return
	}
	p.shard.unlink(x)
	st := &stream{kind: kind, counted: ss.metrics, cancel: x.cancel, exchange: x, conn: conn}
	p.stream = st
	ss.metrics.open[kind].Inc()
	if st.cancel == nil {
		return
	}
	d, config := &x.decision, x.snapshot.config
	st.Watched = authn.Watched{
		Identity:  d.Identity,
		OnRevoke:  d.Route.Streams.CloseOnRevoke,
		InSession: d.FromCookie,
		End:       st.end,
	}
	if d.Route.Streams.CloseOnExpiry && !d.Identity.Expires.IsZero() {
		st.Watched.Expires = d.Identity.Expires.Add(config.Tokens.Leeway)
	}
	ss.watch.Add(&st.Watched)
}

// leave notes that the handler of x has returned. Nothing touches x any more
// when it is done.
func (ss *streams) leave(x *exchange) {
	sh := x.place.shard
	if sh == nil {
		return
	}
	sh.mu.Lock()
	sh.unlink(x)
	st := x.place.stream
	sh.mu.Unlock()
	if x.cancel != nil {
		defer x.cancel()
	}
	if st == nil {
		return
	}
	ss.metrics.open[st.kind].Dec()
	if st.cancel != nil {
		ss.watch.Remove(&st.Watched)
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.exchange = nil
	if st.why != nil && x.err == nil { // or else the answer says so
		x.ended, x.aborted = st.why, true
	}
}

// endedBy is why x was ended, or nil. It is for x's own goroutine.
func (x *exchange) endedBy() *authn.Refusal {
	if x.place.shard == nil {
		return nil
	}
	x.place.shard.mu.Lock()
	st := x.place.stream
	x.place.shard.mu.Unlock()
	if st == nil {
		return nil
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.why
}

// run finds the exchanges that have grown old, until ctx ends.
func (ss *streams) run(ctx context.Context) {
	tick := time.NewTicker(min(lookForLong, ss.old/4))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			for i := range ss.shards {
				ss.shards[i].age(ss, now.Add(-ss.old))
			}
		}
	}
}

// age makes streams of what is open since before.
func (sh *streamShard) age(ss *streams, before time.Time) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for x := sh.oldest; x != nil && x.start.Before(before); x = sh.oldest {
		ss.open(x, streamLong, nil)
	}
}

// end is the stream's authn.Watched.End.
func (st *stream) end(reason authn.EndReason, why *authn.Refusal) {
	st.mu.Lock()
	if st.exchange == nil {
		st.mu.Unlock()
		return
	}
	st.why = why
	conn := st.conn
	st.mu.Unlock()
	st.counted.ended.WithLabelValues(string(reason)).Inc()
	if conn != nil {
		conn.sayGoodbye(why.Description)
	}
	// This closes the upstream's side. The handler fails then, which closes the
	// client's: a connection of HTTP/1, a stream of HTTP/2.
	st.cancel()
	time.AfterFunc(farewell, func() { st.force((*http.ResponseController).SetReadDeadline) })
	time.AfterFunc(2*farewell, func() { st.force((*http.ResponseController).SetWriteDeadline) })
}

// force frees a handler that waits for the client: to send what it has
// announced, and then can still be told why, or to take what it was sent.
func (st *stream) force(setDeadline func(*http.ResponseController, time.Time) error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.exchange == nil || st.conn != nil {
		return
	}
	_ = setDeadline(http.NewResponseController(st.exchange.ResponseWriter), time.Unix(1, 0))
}

// kindOf tells by the answer's header whether it is a stream.
func kindOf(res *http.Response) streamKind {
	has := func(prefix string) bool {
		ct := res.Header["Content-Type"]
		return len(ct) > 0 && len(ct[0]) >= len(prefix) && strings.EqualFold(ct[0][:len(prefix)], prefix)
	}
	switch {
	case res.StatusCode == http.StatusSwitchingProtocols:
		return notAStream // not yet: Hijack has its connection
	case has("text/event-stream"):
		return streamEvents
	case has("application/grpc"):
		return streamGRPC
	}
	return notAStream
}

// An upgradedConn is the client's connection of an upgraded exchange. It
// counts what is sent, and follows the frames so that the gateway knows where
// it may say goodbye.
type upgradedConn struct {
	net.Conn
	// early is what net/http has read already, a first frame that did not wait
	// for the 101; nil once it is empty, since it would stay as long as the
	// stream. Only the one reader looks at it.
	early *bufio.Reader
	bytes *atomic.Int64 // ReverseProxy may still be writing when its handler returns

	mu     sync.Mutex
	frames frames
	said   bool // goodbye: nothing of the upstream's may follow
}

// goodbye is a close frame: 1008, policy violation (RFC 6455, section 7.4.1).
// The reason is text of the gateway's own, shorter than the 123 bytes that fit.
func goodbye(reason string) []byte {
	return append([]byte{0x88, 2 + byte(len(reason)), 1008 >> 8, 1008 & 0xff}, reason...)
}

func (c *upgradedConn) Read(b []byte) (int, error) {
	if c.early != nil {
		if n := c.early.Buffered(); n > 0 {
			return c.early.Read(b[:min(n, len(b))])
		}
		c.early = nil
	}
	return c.Conn.Read(b)
}

func (c *upgradedConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.said {
		return 0, errEnded
	}
	n, err := c.Conn.Write(b)
	c.frames.pass(b[:n])
	c.bytes.Add(int64(n))
	return n, err
}

// sayGoodbye sends a close frame if one may stand here. A client that does not
// read is not waited for.
func (c *upgradedConn) sayGoodbye(reason string) {
	c.Conn.SetWriteDeadline(time.Now().Add(farewell))
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.said || !c.frames.between() {
		return
	}
	n, err := c.Conn.Write(goodbye(reason))
	c.bytes.Add(int64(n))
	if c.said = err == nil; c.said {
		c.CloseWrite()
	}
}

// Close waits a moment for a client that was told goodbye to hang up.
func (c *upgradedConn) Close() error {
	c.mu.Lock()
	said := c.said
	c.mu.Unlock()
	if said {
		c.Conn.SetReadDeadline(time.Now().Add(linger))
		for skipped := make([]byte, 1<<10); ; {
			if _, err := c.Conn.Read(skipped); err != nil {
				break
			}
		}
	}
	return c.Conn.Close()
}

// CloseWrite keeps half-closing possible, which ReverseProxy looks for.
func (c *upgradedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// streamMetrics count streams.
type streamMetrics struct {
	open  [streamKinds]prometheus.Gauge // none for notAStream
	ended *prometheus.CounterVec
}

func newStreamMetrics(r prometheus.Registerer) *streamMetrics {
	open := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "gatehouse_streams_open", Help: "Streams that are open: upgraded connections, event streams, gRPC, and what is open for more than ten seconds.",
	}, []string{"kind"})
	m := &streamMetrics{ended: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gatehouse_streams_ended_total", Help: "Streams that the gateway ended with the identity behind them.",
	}, []string{"reason"})}
	for kind := streamWebsocket; kind < streamKinds; kind++ {
		m.open[kind] = open.WithLabelValues(streamNames[kind])
	}
	for _, reason := range []authn.EndReason{authn.EndRevoked, authn.EndExpired} {
		m.ended.WithLabelValues(string(reason))
	}
	r.MustRegister(open, m.ended)
	return m
}
