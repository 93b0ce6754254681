package proxy

import (
	"encoding/json"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"gatehouse/authn"
	"gatehouse/authn/pages"
)

// statuses says which status each refusal is. A test compares it with
// authn.Refusals.
var statuses = map[string]int{
	"bad_path":               http.StatusBadRequest,
	"invalid_request":        http.StatusBadRequest,
	"weak_password":          http.StatusBadRequest,
	"user_exists":            http.StatusBadRequest,
	"invalid_credentials":    http.StatusBadRequest,
	"missing_token":          http.StatusUnauthorized,
	"invalid_token":          http.StatusUnauthorized,
	"forbidden":              http.StatusForbidden,
	"registration_closed":    http.StatusForbidden,
	"cross_origin":           http.StatusForbidden,
	"no_route":               http.StatusNotFound,
	"method_not_allowed":     http.StatusMethodNotAllowed,
	"body_too_large":         http.StatusRequestEntityTooLarge,
	"unsupported_media_type": http.StatusUnsupportedMediaType,
	"too_many_attempts":      http.StatusTooManyRequests,
	"header_too_large":       http.StatusRequestHeaderFieldsTooLarge,
	"internal":               http.StatusInternalServerError,
	"upstream_unavailable":   http.StatusBadGateway,
	"upstream_timeout":       http.StatusGatewayTimeout,
	"busy":                   http.StatusServiceUnavailable,
	"revocation_unavailable": http.StatusServiceUnavailable,
}

// Status is the HTTP status of a refusal.
func Status(r *authn.Refusal) int {
	if status, ok := statuses[r.Code]; ok {
		return status
	}
	return http.StatusInternalServerError
}

// StatusOf is the status of the answer to r, which d refuses with ref: that of
// the refusal, or 302 for a browser that is sent to sign in.
func (s *Snapshot) StatusOf(r *http.Request, d Decision, ref *authn.Refusal) int {
	if s.loginPath != "" && isNavigation(r) && d.wantsLogin(ref) {
		return http.StatusFound
	}
	return Status(ref)
}

// refuse writes the answer to a request that is refused. It is the only place
// that writes an error. Browsers' navigations get a page, or are sent to log in
// where that could help; everything else gets JSON.
func (s *Snapshot) refuse(x *exchange, r *http.Request, err error) {
	ref := authn.AsRefusal(err)
	status := Status(ref)
	h := x.Header()
	if r.ContentLength != 0 {
		// net/http reads what is left of the body, up to 256 kB, before it lets the
		// answer out: from a client that sends nothing, for ever.
		_ = http.NewResponseController(x.ResponseWriter).SetReadDeadline(time.Now().Add(drainTime))
	}
	for name := range h { // what a half-made answer has left
		if name != "X-Request-Id" && name != "Allow" && name != "Vary" && name != "Set-Cookie" && !strings.HasPrefix(name, "Access-Control-") {
			delete(h, name)
		}
	}
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if ref.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(ref.RetryAfter.Seconds()))))
	} else if status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	}
	if status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", s.challenge(ref))
	}

	if s.StatusOf(r, x.decision, ref) == http.StatusFound {
		h.Set("Location", s.loginFor(r))
		h.Add("Vary", "Accept, Sec-Fetch-Mode")
		x.WriteHeader(http.StatusFound)
		return
	}
	if navigates(r.Header) {
		s.refusePage(x, r, ref, status)
		return
	}
	body, _ := json.Marshal(errorBody{ref.Code, ref.Message, x.id[0]}) // three strings
	h.Set("Content-Type", "application/json")
	if r.Method != http.MethodHead {
		h.Set("Content-Length", strconv.Itoa(len(body)+1)) // it may be sent before net/http knows
	}
	x.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = x.Write(append(body, '\n'))
	}
}

// loginFor is where to sign in, with the way back to what r wanted where that
// can be asked for again.
func (s *Snapshot) loginFor(r *http.Request) string {
	if s.loginPath == "" || r.Method != http.MethodGet && r.Method != http.MethodHead {
		return s.loginPath
	}
	return s.loginPath + "?next=" + url.QueryEscape(r.URL.RequestURI())
}

// refusePage shows a refusal to a person.
func (s *Snapshot) refusePage(x *exchange, r *http.Request, ref *authn.Refusal, status int) {
	refused := pages.Refused{Refusal: ref, Status: status, RetryAfter: ref.RetryAfter, RequestID: x.id[0]}
	switch {
	case ref.Code == authn.ErrForbidden.Code, r.Method == http.MethodGet, r.Method == http.MethodHead:
		if x.decision.Route != nil {
			refused.Login = s.loginFor(r)
		}
	default:
		refused.Login = s.signInBeside(r, &x.decision, ref)
	}
	if id := x.decision.Identity; id != nil {
		refused.SignedIn = id.Email
	}
	if err := s.pages.WriteError(x, r, refused); err != nil {
		x.err = authn.ErrInternal.Because(err) // the pages were tried when they were loaded
	}
}

// errorBody is what programs get.
type errorBody struct {
	Error     string `json:"error"`
	Message   string `json:"message"`
	RequestID string `json:"request_id"`
}

// challenge is the WWW-Authenticate value (RFC 6750, section 3). A request
// without a token gets no error code.
func (s *Snapshot) challenge(ref *authn.Refusal) string {
	c := `Bearer realm="` + s.realm + `"`
	if ref.Code != authn.ErrInvalidToken.Code {
		return c
	}
	description := ref.Description
	if description == "" {
		description = ref.Message
	}
	return c + `, error="invalid_token", error_description="` + description + `"`
}

// wantsLogin reports whether signing in is what would help: the request was for
// a route, and it came without a token or with a cookie that is no longer good.
func (d *Decision) wantsLogin(ref *authn.Refusal) bool {
	if d.Route == nil {
		return false
	}
	return ref.Code == authn.ErrMissingToken.Code || ref.Code == authn.ErrInvalidToken.Code && d.FromCookie
}

// isNavigation tells a browser that goes to a page, and can be sent to another,
// from a program and from a browser that posts a form.
func isNavigation(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && navigates(r.Header)
}

// navigates tells whether a browser will show the answer: by Fetch Metadata,
// else by an Accept header that names text/html.
func navigates(h http.Header) bool {
	if mode := h["Sec-Fetch-Mode"]; len(mode) > 0 {
		return mode[0] == "navigate"
	}
	for _, accept := range h["Accept"] {
		for element := range strings.SplitSeq(accept, ",") {
			media, _, _ := strings.Cut(element, ";")
			if strings.EqualFold(strings.TrimSpace(media), "text/html") {
				return true
			}
		}
	}
	return false
}

// drainTime is how long the body of a refused request may take to arrive. The
// connection is closed if it does not.
const drainTime = time.Second

// retryLater is how long a client should wait where the gateway cannot tell.
const retryLater = time.Second
