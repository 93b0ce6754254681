package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse/authn"
)

// A Renewer keeps browsers signed in whose access token is no longer good, for
// as long as their session is alive.
//
// # Why
//
// There are two steps because an answer may come late, or never arrive. Resume
// lets the request in; Renew, called when the answer is about to go out, spends
// the refresh token. See [authn.Service.Resume].
type Renewer interface {
	// Resume is an access token for the session of a refresh cookie, which it
	// does not spend. The error is authn.ErrInvalidToken if the session has ended,
	// and no Refusal if no verdict was possible.
	Resume(ctx context.Context, refreshToken string, c authn.Client) (token string, err error)
	// Renew spends it and returns the Set-Cookie fields of the answer. The error
	// is authn.ErrSpent if the browser has newer ones already.
	Renew(ctx context.Context, refreshToken string, c authn.Client) (cookies []string, err error)
}

// verify is the verifier's verdict on a token that may be missing.
func (s *Snapshot) verify(ctx context.Context, token string) (*authn.Identity, error) {
	if token == "" {
		return nil, authn.ErrMissingToken
	}
	return s.verifier.Verify(ctx, token)
}

// dead tells a credential that is no longer good, or missing, from one that
// nobody can tell about.
func dead(err error) bool {
	return errors.Is(err, authn.ErrInvalidToken) || errors.Is(err, authn.ErrMissingToken)
}

// resume finds who sent a request whose access token was refused because of bad,
// by its refresh cookie. What another site made the browser send revives no
// session: it is refused, or is nobody's where nobody is welcome.
func (s *Snapshot) resume(r *http.Request, d *Decision, refresh string, bad error) (*authn.Identity, error) {
	for rt := range d.rules {
		if rt.CSRF != "check" {
			continue
		}
		if err := s.cross.check(r, d.websocket, rt.cors); err != nil {
			if d.optional() {
				return nil, bad
			}
			return nil, err
		}
	}
	id, err := s.resumed(r, refresh, bad)
	if err == nil {
		d.refresh = refresh
	}
	return id, err
}

// resumed is who a refresh cookie signs in.
func (s *Snapshot) resumed(r *http.Request, refresh string, bad error) (*authn.Identity, error) {
	token, err := s.renewer.Resume(r.Context(), refresh, s.clientOf(r))
	if err == nil {
		// What holds for every token holds for this one, revocations included.
		var id *authn.Identity
		if id, err = s.verifier.Verify(r.Context(), token); err == nil {
			return id, nil
		}
	}
	if !errors.Is(err, authn.ErrInvalidToken) {
		return nil, err
	}
	// The client is told about the token that it presented, or that there was
	// none; the log is told both.
	ref := authn.AsRefusal(bad)
	return nil, ref.Because(fmt.Errorf("%s; its session: %s", cmp.Or(ref.Cause(), "no access token"), authn.AsRefusal(err).Cause()))
}

// unsure is err, or what a client is told where no verdict was possible.
func unsure(err error) error {
	var refusal *authn.Refusal
	if errors.As(err, &refusal) || errors.Is(err, context.Canceled) {
		return err
	}
	return authn.ErrBusy.Saying("The token cannot be verified at the moment").After(retryLater).Because(err)
}

func (s *Snapshot) clientOf(r *http.Request) authn.Client {
	return authn.Client{Address: peerOf(r, s.config.TrustedProxies).client, UserAgent: r.UserAgent()}
}

// resumeFor is the Caller.Resume of one of the gateway's own endpoints.
func (x *exchange) resumeFor(r *http.Request, cr credentials) func(error) (*authn.Identity, error) {
	s := x.snapshot
	if s.renewer == nil || cr.refresh == "" || cr.token != "" && !cr.fromCookie {
		return nil
	}
	return func(bad error) (*authn.Identity, error) {
		id, err := s.resumed(r, cr.refresh, bad)
		if err != nil {
			return nil, unsure(err)
		}
		x.decision.refresh = cr.refresh
		return id, nil
	}
}

// renewal is what became of a session's refresh on the way.
type renewal int

const (
	renewedNot  renewal = iota // the access token was good
	renewed                    // the answer carries new cookies
	renewedLate                // the browser had newer ones already, or has signed out
	renewFailed                // the session could not be written; the next request tries again
	renewals    = iota
)

var renewalNames = [renewals]string{"", "ok", "late", "failed"}

// renew hands new cookies to a browser whose session goes on, with whatever
// answer it gets. The header is about to go out: nothing of an upstream's can
// take them away.
//
// An answer that nobody waits for spends nothing.
func (x *exchange) renew() {
	refresh := x.decision.refresh
	if refresh == "" {
		return
	}
	x.decision.refresh = ""
	r, s := x.request, x.snapshot
	if r.Context().Err() != nil {
		return
	}
	ctx := authn.WithCaller(r.Context(), authn.Caller{RequestID: x.id[0]})
	cookies, err := s.renewer.Renew(ctx, refresh, s.clientOf(r))
	switch {
	case errors.Is(err, authn.ErrSpent), errors.Is(err, authn.ErrInvalidToken):
		x.renewed = renewedLate
		return
	case err != nil:
		x.renewed, x.renewErr = renewFailed, err
		return
	}
	x.renewed = renewed
	h := x.Header()
	for _, cookie := range cookies {
		h.Add("Set-Cookie", cookie)
	}
	keepPrivate(h)
}

// keepPrivate keeps an answer with new cookies out of shared caches, which may
// store Set-Cookie like any other field (RFC 9111, section 7.3): who got it from
// there would be signed in as somebody else. What the upstream said about
// browsers' own caches stays.
func keepPrivate(h http.Header) {
	directives, noStore := []string{"private"}, false
	for _, line := range h["Cache-Control"] {
		if strings.Contains(line, `"`) {
			// no-cache="a, b" or private="a", whose commas are not ours.
			directives = append(directives, "no-cache")
			noStore = noStore || noStoreBare.MatchString(quotedText.ReplaceAllString(line, ""))
			continue
		}
		for d := range strings.SplitSeq(line, ",") {
			d = strings.Trim(d, " \t")
			name, _, _ := strings.Cut(d, "=")
			name = strings.ToLower(strings.Trim(name, " \t"))
			noStore = noStore || name == "no-store"
			switch name {
			case "", "public", "private", "s-maxage", "proxy-revalidate":
			default:
				directives = append(directives, d)
			}
		}
	}
	for name := range h {
		// RFC 9213 and what came before it: orders to CDNs and other caches alone,
		// which go before Cache-Control there.
		switch lower := strings.ToLower(name); {
		case lower == "surrogate-control", lower == "edge-control", lower == "x-accel-expires", strings.HasSuffix(lower, "-cache-control"):
			delete(h, name)
		}
	}
	if noStore {
		return // says it all
	}
	h["Cache-Control"] = []string{strings.Join(directives, ", ")}
}

// In a line with quotes, no-store stands outside of them.
var (
	quotedText  = regexp.MustCompile(`"(?:[^"\\]|\\.)*"?`)
	noStoreBare = regexp.MustCompile(`(?i)(?:^|,)[ \t]*no-store[ \t]*(?:,|$)`)
)

// newRenewals are the counters of what became of refreshes on the way.
func newRenewals(r prometheus.Registerer) (counters [renewals]prometheus.Counter) {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gatehouse_refreshes_total",
		Help: "Requests of browsers whose session went on without a good access token: ok, with new cookies; late, the browser had newer ones; failed.",
	}, []string{"outcome"})
	for i := renewed; i < renewals; i++ {
		counters[i] = vec.WithLabelValues(renewalNames[i])
	}
	r.MustRegister(vec)
	return counters
}
