package authn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxJWKS      = 1 << 20 // bytes
	fetchTimeout = 10 * time.Second
	maxRedirects = 3

	// Tokens with made-up key IDs cost the issuer one request in this time. It
	// is shorter than an issuer waits before it signs with a key that it has
	// published (ten seconds, with this gateway), so that no token of a new key
	// falls into it.
	coolDown = 5 * time.Second

	refreshMin     = time.Minute
	refreshMax     = 24 * time.Hour
	refreshDefault = 15 * time.Minute // where the issuer names no max-age
)

// remoteKeys is the JWK set of one URL, kept current. The last good set stays
// in use while the issuer is away. Without a URL the set never changes.
type remoteKeys struct {
	url     string
	client  *http.Client
	timeout time.Duration // of one fetch, to the end of the body
	now     func() time.Time

	set atomic.Pointer[jwkSet] // nil: never had; written under mu

	mu       sync.Mutex
	fetched  time.Time
	maxAge   time.Duration
	tried    time.Time
	err      error
	fetching chan struct{} // closed when the fetch under way is over; nil for none
}

func newRemoteKeys(url string, now func() time.Time) *remoteKeys {
	return &remoteKeys{url: url, client: newClient(), timeout: fetchTimeout, now: now}
}

// newClient has connections of its own: nothing here shares limits or
// keep-alives with forwarded requests.
func newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: fetchTimeout}).DialContext,
			TLSHandshakeTimeout:    fetchTimeout,
			ForceAttemptHTTP2:      true,
			MaxIdleConns:           1,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return fmt.Errorf("more than %d redirects", maxRedirects)
			}
			first := via[0].URL
			if r.URL.Scheme != first.Scheme {
				return fmt.Errorf("redirect from %s to %s", first.Scheme, r.URL.Scheme)
			}
			// Plain http is for the loopback: it must not lead out of it, nor
			// to somebody else on it. Over https each host proves its name.
			if first.Scheme == "http" && r.URL.Host != first.Host {
				return fmt.Errorf("redirect over http from %s to %s", first.Host, r.URL.Host)
			}
			return nil
		},
	}
}

// current is asked by every request with a remembered token.
func (k *remoteKeys) current() *jwkSet { return k.set.Load() }

// verify is the signature step for j. Where a newer set could change a no, it
// is asked for first, within the cool-down; where it could not be had, the
// error is ErrNoKeys, which is no verdict. It returns the set whose verdict it is.
func (k *remoteKeys) verify(ctx context.Context, j jws, h joseHeader) (*jwkSet, error) {
	set := k.current()
	for {
		var err error
		if set == nil {
			err = ErrNoKeys
		} else {
			err = verifyWith(set, j, h)
		}
		// Without kid, a bad signature may be one of a new key.
		newer := errors.Is(err, ErrNoKeys) || errors.Is(err, errUnknownKey) || !h.hasKID && errors.Is(err, errBadSignature)
		if !newer || k.url == "" {
			return set, err
		}
		next, fetchErr := k.refresh(ctx, set, false)
		if next == set {
			if fetchErr != nil {
				return set, fmt.Errorf("%w: %w", ErrNoKeys, fetchErr)
			}
			return set, err
		}
		set = next
	}
}

func verifyWith(set *jwkSet, j jws, h joseHeader) error {
	key, err := set.find(h)
	if err != nil {
		return err
	}
	return key.verify(j)
}

// refresh returns a newer set than seen, or seen and why there is none.
// Concurrent callers share one fetch; force passes over the cool-down.
func (k *remoteKeys) refresh(ctx context.Context, seen *jwkSet, force bool) (*jwkSet, error) {
	k.mu.Lock()
	if now := k.current(); now != seen && !force {
		k.mu.Unlock()
		return now, nil
	}
	if under := k.fetching; under != nil {
		k.mu.Unlock()
		select {
		case <-under:
		case <-ctx.Done():
			return seen, ctx.Err()
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.current(), k.err
	}
	now := k.now()
	if since := now.Sub(k.tried); !force && !k.tried.IsZero() && since >= 0 && since < coolDown {
		defer k.mu.Unlock()
		return k.current(), k.err
	}
	done := make(chan struct{})
	k.fetching, k.tried = done, now
	k.mu.Unlock()

	set, maxAge, err := (*jwkSet)(nil), time.Duration(0), errors.New("fetch broke off")
	defer func() {
		k.mu.Lock()
		k.fetching, k.err = nil, err
		if err == nil {
			k.set.Store(set)
			k.maxAge, k.fetched = maxAge, now
		}
		k.mu.Unlock()
		close(done)
	}()
	// The caller's context only carries values: whoever else waits for this
	// fetch must not lose it because one client has gone. It ends by itself
	// after timeout.
	if !force {
		ctx = context.WithoutCancel(ctx)
	}
	if set, maxAge, err = k.fetch(ctx); err != nil {
		return seen, err
	}
	// An answer that says the same is the same set, so that tokens verified
	// with it need not be verified again.
	if old := k.current(); old != nil && old.sum == set.sum {
		set = old
	}
	return set, nil
}

func (k *remoteKeys) fetch(ctx context.Context) (*jwkSet, time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url, nil)
	if err != nil {
		return nil, 0, err
	}
	r.Header.Set("Accept", "application/jwk-set+json, application/json")
	r.Header.Set("User-Agent", "gatehouse")
	answer, err := k.client.Do(r)
	if err != nil {
		return nil, 0, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("%s answered %d, want 200", k.url, answer.StatusCode)
	}
	if err := checkMedia(answer.Header.Get("Content-Type")); err != nil {
		return nil, 0, fmt.Errorf("%s: %w", k.url, err)
	}
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxJWKS+1))
	if err != nil {
		return nil, 0, fmt.Errorf("read %s: %w", k.url, err)
	}
	if len(data) > maxJWKS {
		return nil, 0, fmt.Errorf("%s: want at most %d bytes", k.url, maxJWKS)
	}
	// A set without a key is an accident at the other end: the good one stays.
	set, err := parseUsableJWKS(data)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", k.url, err)
	}
	return set, maxAgeOf(answer.Header), nil
}

// checkMedia refuses pages. Object stores serve JSON without saying so.
func checkMedia(contentType string) error {
	if contentType == "" {
		return nil
	}
	media, _, err := mime.ParseMediaType(contentType)
	if err == nil {
		switch media {
		case "application/json", "application/octet-stream", "text/plain", "binary/octet-stream":
			return nil
		}
		if strings.HasSuffix(media, "+json") {
			return nil
		}
	}
	return fmt.Errorf("answer of type %.64q, want JSON", contentType)
}

// maxAgeOf is how long the set may be kept, by Cache-Control (RFC 9111,
// section 5.2.2.1) and within our own bounds.
func maxAgeOf(h http.Header) time.Duration {
	age := refreshDefault
	for _, directive := range strings.Split(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch strings.ToLower(name) {
		case "max-age":
			seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31)
			if err == nil {
				age = time.Duration(seconds) * time.Second
			}
		case "no-store", "no-cache":
			return refreshMin
		}
	}
	return min(max(age, refreshMin), refreshMax)
}

// follow fetches the set whenever it is due, until ctx ends.
func (k *remoteKeys) follow(ctx context.Context) {
	defer k.client.CloseIdleConnections()
	timer := time.NewTimer(k.due())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		// The error is kept for State; the set in use stays.
		k.refresh(ctx, k.current(), true)
		timer.Reset(k.due())
	}
}

// due is how long the next periodic fetch is away.
func (k *remoteKeys) due() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.tried.IsZero():
		return 0
	case k.current() == nil:
		return coolDown
	case k.err != nil:
		return refreshMin
	}
	return min(max(k.fetched.Add(k.maxAge).Sub(k.now()), 0), k.maxAge)
}

// adopt starts from what old has.
func (k *remoteKeys) adopt(old *remoteKeys) {
	old.mu.Lock()
	set, fetched, maxAge, tried, err := old.current(), old.fetched, old.maxAge, old.tried, old.err
	old.mu.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.current() == nil {
		k.set.Store(set)
		k.fetched, k.maxAge, k.tried, k.err = fetched, maxAge, tried, err
	}
}

func (k *remoteKeys) state() IssuerState {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := IssuerState{Fetched: k.fetched, Err: k.err}
	if set := k.current(); set != nil {
		s.Keys, s.Skipped = len(set.keys), set.skipped
	}
	return s
}
