// Package proxy decides about requests and forwards them.
//
// A configuration becomes an immutable [Snapshot]; a request becomes a
// [Decision]; serving, explaining and testing are readers of that same
// Decision. Every refusal is an [authn.Refusal] that travels up to
// [Gateway.ServeHTTP], where the one answer to it is written.
//
// The way of a request, one function each, in [Snapshot.Decide] (decide.go):
//
//	locate    one form of host and path, or bad_path          canonical.go
//	match     the gateway's own endpoint, or a route          table.go
//	          every reading of an odd path counts as well     readings.go
//	preflight CORS                                            crosssite.go
//	identify  credentials, verifier, checks                   credentials.go
//	sameSite  if the identity came from the cookie            crosssite.go
//	allow     by the route's access                           access.go
//
// Then [Gateway.forward]: strip what the client may not say, set who it is
// (strip.go, identity.go, upstream.go), and hand the request to
// httputil.ReverseProxy. What then goes on for long ends with its identity
// (stream.go). One log line and one set of metrics follow, even after
// a panic (exchange.go, metrics.go).
//
// # Why
//
// Nothing is refused inside Rewrite or a RoundTripper, where an error has no
// good way out, and nothing about a request is decided anywhere but in Decide.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"gatehouse/authn"
)

// Options are what a Gateway needs beside its configuration.
type Options struct {
	Log *slog.Logger // nil: slog.Default()
	// Metrics counts requests. nil: nobody looks, they are counted all the same.
	Metrics *Metrics
	// Pace holds up refusals. nil: nothing does.
	Pace *Pace
	// Watch ends streams with the identity behind them. nil: nothing does.
	Watch *authn.Watch
}

// Gateway answers every request, by the snapshot in use when it arrived. It is
// ready once Use has been called.
type Gateway struct {
	snapshot   atomic.Pointer[Snapshot]
	log        *slog.Logger
	metrics    *Metrics
	pace       *Pace
	unrouted   *routeMetrics // for requests that no route took
	transports *transports
	streams    *streams
}

// New makes a Gateway without a snapshot.
func New(o Options) *Gateway {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics("", "")
	}
	ts := newTransports(o.Log)
	o.Metrics.connections(ts)
	return &Gateway{log: o.Log, metrics: o.Metrics, pace: o.Pace, unrouted: o.Metrics.route(""), transports: ts,
		streams: &streams{watch: o.Watch, metrics: o.Metrics.streams, old: longAfter}}
}

// Run notices which exchanges have been open for so long that they end with
// their identity, until ctx ends.
func (g *Gateway) Run(ctx context.Context) { g.streams.run(ctx) }

// NewSnapshot is [NewSnapshot] for a snapshot that this gateway can use: its
// routes share the connections and metrics that survive a reload.
func (g *Gateway) NewSnapshot(o SnapshotOptions) (*Snapshot, error) {
	s, err := NewSnapshot(o)
	if err != nil {
		return nil, err
	}
	forwarders := map[transportKey]http.Handler{} // one for all routes that share connections
	for _, rt := range s.routes {
		key := rt.target.key(rt.Timeout)
		if forwarders[key] == nil {
			forwarders[key] = newForwarder(s, g.transports.get(rt.target, rt.Timeout), g.log)
		}
		rt.handler = forwarders[key]
		rt.metrics = g.metrics.route(rt.Name)
	}
	return s, nil
}

// Use makes s the snapshot of all requests from now on. Requests in flight keep
// theirs.
func (g *Gateway) Use(s *Snapshot) {
	g.snapshot.Store(s)
	g.pace.trust(s.config.TrustedProxies)
	var names []string
	connections := map[transportKey]bool{}
	for _, rt := range s.routes {
		names = append(names, rt.Name)
		connections[rt.target.key(rt.Timeout)] = true
	}
	g.metrics.retain(names)
	g.transports.retain(connections)
}

// LimitConnections bounds how many connections to upstreams of HTTP/1.1 may be
// open at once, over all of them; 0 is no limit. A request that needs another is
// refused with authn.ErrBusy.
func (g *Gateway) LimitConnections(most int) { g.transports.room.most.Store(int64(most)) }

// Close ends idle connections to upstreams.
func (g *Gateway) Close() { g.transports.Close() }

// ServeHTTP answers one request.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.exchange(w, r, nil) }

// Refuse answers one request with err, whatever it is for, as ServeHTTP answers one
// that is refused.
func (g *Gateway) Refuse(w http.ResponseWriter, r *http.Request, err error) { g.exchange(w, r, err) }

func (g *Gateway) exchange(w http.ResponseWriter, r *http.Request, err error) {
	s := g.snapshot.Load()
	x := newExchange(s, w, r)
	g.metrics.inFlight.Inc()
	defer x.handOver()
	defer g.finish(x) // one log line, one set of metrics, even after a panic
	if err == nil {
		err = g.serve(s, x, r)
	}
	if err != nil {
		if x.status == 0 && errors.Is(err, context.Canceled) && r.Context().Err() != nil {
			x.abandon() // a login that nobody waits for any more is no failure of ours
		}
		x.err = err
		if x.status == 0 {
			if paced(authn.AsRefusal(err)) {
				if wait := g.pace.due(x.peer.client, 1); wait > 0 && !x.holdUp(g.pace, wait) {
					panic(http.ErrAbortHandler)
				}
			}
			s.allowOrigin(x, r) // so that a script of an allowed origin can read why
			s.refuse(x, r, err)
		}
	}
}

func (g *Gateway) serve(s *Snapshot, x *exchange, r *http.Request) (err error) {
	if err := x.checkFrames(r); err != nil {
		return err
	}
	err = x.decide(s, r)
	d := &x.decision
	switch {
	case err != nil:
		return err
	case d.Endpoint != nil: // /login, /userinfo, …: answered here
		return g.answer(s, x, r)
	case d.preflight != nil:
		x.answerPreflight()
		return nil
	default:
		return g.forward(s, x, r)
	}
}

// decide and prepare are by themselves, so that what they need is off the stack
// by the time of forwarding: with it, the stack of an idle stream would be twice
// as large.
//
//go:noinline
func (x *exchange) decide(s *Snapshot, r *http.Request) error {
	return s.decide(r, &x.decision, nil)
}

//go:noinline
func (x *exchange) answerPreflight() {
	maps.Copy(x.Header(), x.decision.preflight)
	x.WriteHeader(http.StatusNoContent)
}

//go:noinline
func (s *Snapshot) allowOrigin(x *exchange, r *http.Request) {
	if rt := x.decision.Route; rt != nil && rt.cors != nil {
		rt.cors.apply(x.Header(), r.Header.Get("Origin"))
	}
}

// answer runs one of the gateway's own endpoints. Its body must arrive within
// limits.header_timeout, as the header did.
func (g *Gateway) answer(s *Snapshot, x *exchange, r *http.Request) error {
	if t := s.config.Limits.HeaderTimeout; t > 0 {
		http.NewResponseController(x).SetReadDeadline(x.start.Add(t))
	}
	cr, err := s.credentials.read(r.Header)
	return x.decision.Endpoint(x, r.WithContext(authn.WithCaller(r.Context(), authn.Caller{
		Address:     x.peer.client,
		UserAgent:   r.UserAgent(),
		RequestID:   x.id[0],
		Navigates:   navigates(r.Header),
		CrossOrigin: s.cross.check(r, false, nil),
		Token:       cr.token,
		FromCookie:  cr.fromCookie,
		Refresh:     cr.refresh,
		Known:       cr.known,
		Err:         err,
		Resume:      x.resumeFor(r, cr),
	})))
}

// forward sends the request to its upstream.
func (g *Gateway) forward(s *Snapshot, x *exchange, r *http.Request) error {
	out, err := g.prepare(s, x, r)
	if err != nil {
		return err
	}
	x.decision.Route.handler.ServeHTTP(x, out)
	return x.outcome(r)
}

// prepare is the request as its route's handler takes it.
//
//go:noinline
func (g *Gateway) prepare(s *Snapshot, x *exchange, r *http.Request) (*http.Request, error) {
	rt := x.decision.Route
	limit := rt.MaxBodyBytes
	if limit == 0 {
		limit = s.config.Limits.BodyBytes
	}
	if limit > 0 {
		if r.ContentLength > limit {
			return nil, authn.ErrBodyTooLarge.Because(fmt.Errorf("body of %d bytes, limit %d", r.ContentLength, limit))
		}
		r.Body = http.MaxBytesReader(x.ResponseWriter, r.Body, limit)
	}
	if r.ContentLength < 0 && r.ProtoMajor == 1 {
		r.Body = &chunkedBody{r.Body, x}
	}
	if err := x.assert(); err != nil {
		return nil, err
	}
	return r.WithContext(context.WithValue(g.streams.enter(r.Context(), x), exchangeKey{}, x)), nil
}

// outcome is why r got no answer from its upstream, or nil.
func (x *exchange) outcome(r *http.Request) error {
	ended := x.endedBy()
	switch {
	case x.failure == nil:
		return nil
	case ended != nil: // before there was an answer
		if r.ProtoMajor == 1 {
			x.Header()["Connection"] = []string{"close"} // what is left of the body is not waited for
		}
		return ended
	case x.misframed.Load() != nil:
		// The request's context has ended as well: reading failed.
		return authn.ErrInvalidRequest.Because(x.misframed.Load()).Saying("The request body could not be read")
	case r.Context().Err() != nil:
		x.abandon()
	}
	return classify(x.failure)
}

// statusClientGone is what the log and the metrics say of a client that went
// away before there was an answer. It is never sent.
const statusClientGone = 499

// abandon ends an exchange whose client has gone. Returning would make an empty
// 200 of it, should somebody still listen.
func (x *exchange) abandon() {
	x.status = statusClientGone
	panic(http.ErrAbortHandler)
}

// finish records the exchange. It runs deferred because ReverseProxy panics with
// http.ErrAbortHandler when a copy breaks, and those requests belong in the log.
func (g *Gateway) finish(x *exchange) {
	p := recover()
	g.streams.leave(x)
	switch {
	case p == nil:
		x.letGo()
	case p == http.ErrAbortHandler:
		x.aborted = true
	default:
		x.err = authn.ErrInternal.Because(fmt.Errorf("panic: %v", p))
		g.log.Error("panic while answering a request", "request_id", x.id[0], "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		if x.status == 0 {
			x.snapshot.refuse(x, x.request, x.err)
			p = nil
		} else {
			p = http.ErrAbortHandler
		}
	}
	if len(x.stripped) > 0 {
		g.metrics.stripped.Add(float64(len(x.stripped)))
		g.log.Debug("identity headers of a client dropped", "request_id", x.id[0], "headers", strings.Join(x.stripped, ", "))
	}
	g.record(x)
	if p != nil {
		panic(p)
	}
}

// record writes the access log line and counts the exchange.
func (g *Gateway) record(x *exchange) {
	if x.status == 0 {
		x.status = http.StatusOK
	}
	g.metrics.inFlight.Dec()
	counted, upstream := g.unrouted, time.Duration(-1)
	outcome := outcomeAnswered
	if rt := x.decision.Route; rt != nil {
		counted, outcome = rt.metrics, outcomeForwarded
	}
	if !x.forwarded.IsZero() {
		upstream = x.upstream
	}
	if x.err != nil {
		outcome = outcomeRefused
		g.metrics.refused(authn.AsRefusal(x.err).Code)
	}
	if x.held < 0 {
		g.metrics.dropped.Inc() // a line for each would be a flood of the log
		return
	}
	if x.renewed != renewedNot {
		g.metrics.renewals[x.renewed].Inc()
	}
	counted.done(x.request.Method, x.status, outcome, x.took(), upstream)
	if x.snapshot.config.Log.Access {
		x.log(g.log)
	}
}
