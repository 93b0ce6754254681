package authn

import (
	"errors"
	"time"
)

// A Refusal is an error with a public face. Code and Message go to the client,
// the cause goes to the log. proxy/refuse.go holds the status of every code.
type Refusal struct {
	Code, Message string
	// Description is the error_description of RFC 6750, section 3. It is set
	// only where the token's signature is good, so that it tells a forger
	// nothing.
	Description string
	// RetryAfter goes into the header of that name if it is not 0. It is
	// rounded up to whole seconds.
	RetryAfter time.Duration
	// Fault is which field is wrong and how, where Message says so in English;
	// else nil.
	Fault *Fault
	cause error
}

// Error is for the log: the code and the cause.
func (r *Refusal) Error() string {
	if r.cause == nil {
		return r.Code
	}
	return r.Code + ": " + r.cause.Error()
}

func (r *Refusal) Unwrap() error { return r.cause }

// Cause is why, in words for the log; "" if there is nothing to add to Code.
func (r *Refusal) Cause() string {
	if r.cause == nil {
		return ""
	}
	return r.cause.Error()
}

// Is compares codes, so that errors.Is(err, ErrInvalidToken) holds whatever
// the cause inside.
func (r *Refusal) Is(target error) bool {
	t, ok := target.(*Refusal)
	return ok && t.Code == r.Code
}

// Because returns a copy that carries the cause.
func (r *Refusal) Because(cause error) *Refusal {
	c := *r
	c.cause = cause
	return &c
}

// Saying returns a copy with another message for the client.
func (r *Refusal) Saying(message string) *Refusal {
	c := *r
	c.Message = message
	return &c
}

// About returns a copy whose message for the client is f's.
func (r *Refusal) About(f *Fault) *Refusal {
	c := r.Saying(f.Error())
	c.Fault = f
	return c
}

// Describing returns a copy with an RFC 6750 error_description.
func (r *Refusal) Describing(description string) *Refusal {
	c := *r
	c.Description = description
	return &c
}

// After returns a copy that asks the client to wait.
func (r *Refusal) After(wait time.Duration) *Refusal {
	c := *r
	c.RetryAfter = wait
	return &c
}

// AsRefusal is the Refusal in err, or ErrInternal because of err.
func AsRefusal(err error) *Refusal {
	var r *Refusal
	if errors.As(err, &r) {
		return r
	}
	return ErrInternal.Because(err)
}

func refusal(code, message string) *Refusal { return &Refusal{Code: code, Message: message} }

// Every refusal there is. The messages that programs may rely on are those of
// the interface page; a place that knows better adds its own with Saying.
var (
	ErrBadPath            = refusal("bad_path", "This path is not accepted")
	ErrInvalidRequest     = refusal("invalid_request", "Invalid request")
	ErrWeakPassword       = refusal("weak_password", "Password is too weak")
	ErrUserExists         = refusal("user_exists", "User already exists")
	ErrInvalidCredentials = refusal("invalid_credentials", "Invalid credentials")
	ErrMissingToken       = refusal("missing_token", "No token, authorization denied")
	ErrInvalidToken       = refusal("invalid_token", "Invalid token")
	ErrForbidden          = refusal("forbidden", "Not allowed")
	ErrRegistrationClosed = refusal("registration_closed", "Registration is closed")
	ErrCrossOrigin        = refusal("cross_origin", "Cross-origin request refused")
	ErrNoRoute            = refusal("no_route", "Nothing is served here")
	ErrMethodNotAllowed   = refusal("method_not_allowed", "Method not allowed")
	ErrBodyTooLarge       = refusal("body_too_large", "Request body is too large")
	ErrUnsupportedMedia   = refusal("unsupported_media_type", "Send application/json or a form")
	ErrTooManyAttempts    = refusal("too_many_attempts", "Too many attempts, try again later")
	ErrHeaderTooLarge     = refusal("header_too_large", "Request header is too large")
	ErrInternal           = refusal("internal", "Internal error")
	ErrUpstream           = refusal("upstream_unavailable", "The application cannot be reached")
	ErrUpstreamTimeout    = refusal("upstream_timeout", "The application did not answer in time")
	ErrBusy               = refusal("busy", "Busy, try again in a moment")
	ErrRevocation         = refusal("revocation_unavailable", "Revocation state is not available")
)

// Refusals lists every refusal, for whoever must know all codes.
func Refusals() []*Refusal {
	return []*Refusal{
		ErrBadPath, ErrInvalidRequest, ErrWeakPassword, ErrUserExists, ErrInvalidCredentials,
		ErrMissingToken, ErrInvalidToken, ErrForbidden, ErrRegistrationClosed, ErrCrossOrigin,
		ErrNoRoute, ErrMethodNotAllowed, ErrBodyTooLarge, ErrUnsupportedMedia, ErrTooManyAttempts,
		ErrHeaderTooLarge, ErrInternal, ErrUpstream, ErrUpstreamTimeout, ErrBusy, ErrRevocation,
	}
}
