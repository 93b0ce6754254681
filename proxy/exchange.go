package proxy

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"gatehouse/authn"
)

// An exchange is one request and its answer: the record from which the log
// line and the metrics are made, and the http.ResponseWriter that notes what was
// answered. It belongs to the request's goroutine.
type exchange struct {
	http.ResponseWriter
	snapshot *Snapshot
	request  *http.Request
	id       [1]string // as the values of a header
	start    time.Time
	peer     peer
	decision Decision
	err      error // why the request was refused or failed

	hints     int                       // 1xx answers of the upstream
	status    int                       // 0 until the answer begins
	bytes     atomic.Int64              // of the answer's body, or through an upgraded connection
	aborted   bool                      // the answer was cut short
	forwarded time.Time                 // when the upstream was asked
	upstream  time.Duration             // until its response header
	held      time.Duration             // its refusal was held up for so long, or -1: it did not go out
	holding   *h2Conn                   // which counts that refusal
	stripped  []string                  // identity headers that the client brought
	assertion string                    // the signed identity assertion
	failure   error                     // what the ReverseProxy's ErrorHandler was told
	misframed atomic.Pointer[violation] // found by the Guard in the request's body
	renewed   renewal                   // what became of the session's refresh on the way
	renewErr  error                     // why it failed

	stall   stall
	streams *streams // where place is; nil until it is forwarded
	place   streamPlace
	cancel  context.CancelFunc // of the upstream's request; nil if it does not end with its identity
	ended   *authn.Refusal     // why the gateway ended it in the middle
}

const maxHints = 20

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

func newExchange(s *Snapshot, w http.ResponseWriter, r *http.Request) *exchange {
	x := &exchange{ResponseWriter: w, snapshot: s, request: r, start: time.Now()}
	x.peer = peerOf(r, s.config.TrustedProxies)
	if ids := r.Header["X-Request-Id"]; x.peer.trusted && len(ids) == 1 && validRequestID(ids[0]) {
		x.id[0] = ids[0]
	} else {
		x.id[0] = newRequestID()
	}
	x.own(w.Header())
	return x
}

// newRequestID is one that nobody else has. It is no secret: the random numbers
// of crypto/rand cost fifty times as much.
func newRequestID() string {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], rand.Uint64())
	binary.LittleEndian.PutUint64(b[8:], rand.Uint64())
	return base64.RawURLEncoding.EncodeToString(b[:15])
}

// validRequestID bounds what another proxy can put into log lines and answers.
func validRequestID(id string) bool {
	if id == "" || len(id) > 128 {
		return false
	}
	for i := 0; i < len(id); i++ {
		if c := id[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// own sets the headers that are the gateway's on every answer, over whatever
// an upstream has sent.
func (x *exchange) own(h http.Header) {
	h["X-Request-Id"] = x.id[:]
	if x.snapshot.https {
		h["Strict-Transport-Security"] = []string{"max-age=31536000"}
	}
}

// WriteHeader sets the gateway's own headers at the last moment: a 1xx answer
// of an upstream would carry off those that were set before (ReverseProxy
// clears the header after each), and leave the final answer without them.
func (x *exchange) WriteHeader(status int) {
	h := x.Header()
	if status == http.StatusContinue {
		// RFC 9110, section 10.1.1: it is for the one who asked, which was the
		// transport. net/http sends the client's own when the body is first read.
		return
	}
	if status >= 100 && status < 200 && status != http.StatusSwitchingProtocols {
		// RFC 9110, section 15.2: none to an HTTP/1.0 client, which takes the
		// first status for the last. And no more of them than anybody needs.
		if x.hints++; x.hints > maxHints || !x.request.ProtoAtLeast(1, 1) {
			return
		}
		delete(h, "X-Request-Id")
		delete(h, "Strict-Transport-Security")
		keepSetCookies(h)
		x.ResponseWriter.WriteHeader(status)
		return
	}
	if x.status == 0 {
		x.renew()
		x.status = status
		x.own(h)
	}
	x.ResponseWriter.WriteHeader(status)
}

func (x *exchange) Write(b []byte) (int, error) {
	if x.status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	if patience := x.patience(); patience > 0 {
		x.stall.begin(x, patience)
		defer x.stall.end()
	}
	n, err := x.ResponseWriter.Write(b)
	x.bytes.Add(int64(n))
	return n, err
}

// FlushError is what http.ResponseController.Flush calls.
func (x *exchange) FlushError() error {
	if x.status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	if patience := x.patience(); patience > 0 {
		x.stall.begin(x, patience)
		defer x.stall.end()
	}
	return http.NewResponseController(x.ResponseWriter).Flush()
}

// Hijack hands over the connection of an upgraded exchange. What goes through
// it from then on counts as the answer's bytes.
func (x *exchange) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	x.renew()
	conn, rw, err := http.NewResponseController(x.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	x.own(x.Header())
	x.status = http.StatusSwitchingProtocols
	upgraded := &upgradedConn{Conn: conn, early: rw.Reader, bytes: &x.bytes}
	x.opened(streamWebsocket, upgraded)
	rw.Writer.Reset(upgraded)
	return upgraded, rw, nil
}

// Unwrap lets http.ResponseController find deadlines.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// took is the time from the head of the request until now, without what its
// refusal was held up for.
func (x *exchange) took() time.Duration { return time.Since(x.start) - x.held }

// log writes the access log line. It holds no query, no token and no password.
func (x *exchange) log(l *slog.Logger) {
	level := slog.LevelInfo
	if x.status >= 500 && !errors.Is(x.err, authn.ErrBusy) {
		level = slog.LevelWarn
	}
	ctx := x.request.Context()
	if !l.Enabled(ctx, level) {
		return
	}
	total := x.took()
	gateway := total
	if !x.forwarded.IsZero() {
		gateway = x.forwarded.Sub(x.start)
	}
	attrs := make([]slog.Attr, 0, 22)
	attrs = append(attrs,
		slog.String("request_id", x.id[0]),
		slog.String("client", x.peer.client.String()),
		slog.String("method", clip(x.request.Method, 32)),
		slog.String("host", clip(x.request.Host, 255)),
		slog.String("path", clip(x.request.URL.EscapedPath(), 1024)),
		slog.Int("status", x.status),
		slog.Int64("bytes", x.bytes.Load()),
		slog.Duration("duration", total),
		slog.Duration("gateway", gateway),
	)
	if !x.forwarded.IsZero() {
		attrs = append(attrs, slog.Duration("upstream", x.upstream))
	}
	if x.held > 0 {
		attrs = append(attrs, slog.Duration("held", x.held))
	}
	if rt := x.decision.Route; rt != nil {
		attrs = append(attrs, slog.String("route", rt.Name))
	}
	if id := x.decision.Identity; id != nil {
		attrs = append(attrs, slog.String("user", id.ID))
		if id.Session != "" {
			attrs = append(attrs, slog.String("session", id.Session))
		}
		if id.Issuer != "" {
			attrs = append(attrs, slog.String("issuer", id.Issuer))
		}
	}
	decision, reason := x.verdict()
	attrs = append(attrs, slog.String("decision", decision))
	if reason != "" {
		attrs = append(attrs, slog.String("reason", clip(reason, 500)))
	}
	if x.renewed == renewed {
		attrs = append(attrs, slog.Bool("refreshed", true))
	}
	if x.renewErr != nil {
		attrs = append(attrs, slog.String("refresh_failed", clip(x.renewErr.Error(), 500)))
	}
	if x.aborted {
		attrs = append(attrs, slog.Bool("aborted", true))
	}
	l.LogAttrs(ctx, level, "request", attrs...)
}

// verdict is what was decided: "forward", "answer", or the code of the
// refusal and its cause.
func (x *exchange) verdict() (decision, reason string) {
	switch {
	case x.err != nil:
		ref := authn.AsRefusal(x.err)
		return ref.Code, ref.Cause()
	case x.decision.Route != nil:
		if x.ended != nil {
			reason = x.ended.Cause()
		}
		return "forward", reason
	}
	return "answer", ""
}

func clip(s string, n int) string {
	if len(s) > n {
		return s[:n] + "…"
	}
	return s
}
