package authn

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The keys of an issuer that is there, changes its keys, and goes away.
func TestFetchKeys(t *testing.T) {
	b := newIssuerBed(t, "ES256", nil)
	later := func(w http.ResponseWriter, r *http.Request) { http.Error(w, "later", http.StatusServiceUnavailable) }
	b.serve(later)
	away := func(changes with, retry time.Duration) {
		t.Helper()
		id, err := b.trusted.Verify(context.Background(), b.token(t, changes))
		if AsRefusal(err).RetryAfter != retry {
			t.Errorf("Verify = %v, want another try after %v", err, retry)
		}
		if id != nil || !errors.Is(err, ErrNoKeys) || !errors.Is(err, ErrBusy) || errors.Is(err, ErrInvalidToken) {
			t.Errorf("Verify = %v, %v, want ErrBusy because of ErrNoKeys", id, err)
		}
	}
	fetched := func(want int32) {
		t.Helper()
		if got := b.fetches.Load(); got != want {
			t.Errorf("%d fetches, want %d", got, want)
		}
	}
	away(nil, coolDown)
	fetched(1)
	away(nil, coolDown)
	fetched(1) // the cool-down
	b.serve(nil)
	b.at = b.at.Add(coolDown)
	b.allow(t, nil)
	fetched(2)
	b.deny(t, with{"header.kid": "made-up"}, "fits")
	fetched(2)
	b.at = b.at.Add(coolDown)
	b.deny(t, with{"header.kid": "made-up"}, "fits")
	b.deny(t, with{"header.kid": "made-up-2"}, "fits")
	fetched(3)

	// New keys: known kids never ask, the unknown one asks once.
	old, oldKeys := b.token(t, nil), b.Keys
	b.rotate(newTokenBed(t, "ES256").Keys)
	b.at = b.at.Add(coolDown)
	if _, err := b.trusted.Verify(context.Background(), old); err != nil {
		t.Errorf("a known key: %v", err)
	}
	fetched(3)
	b.allow(t, nil)
	fetched(4)
	wantRefused(t, b.trusted, old, "fits") // the issuer has withdrawn it

	// The issuer goes away: its keys stay, and whether another one is its key
	// nobody can tell. That is no verdict: a client that is told 401 throws a
	// good token away.
	for _, answer := range []func(http.ResponseWriter, *http.Request){
		func(w http.ResponseWriter, r *http.Request) { http.Error(w, "gone", http.StatusNotFound) },
		func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"error":"x"}`) },
		func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"keys":[`) },
		func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"keys":[]}`) },
		func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"keys":[{"kty":"oct","k":"AA"}]}`) },
		func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.Write(b.Keys.JWKS(time.Now()))
		},
		func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, `{"keys":[],"x":"`+strings.Repeat("x", maxJWKS)+`"}`)
		},
		func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) },
	} {
		b.serve(answer)
		b.at = b.at.Add(coolDown)
		before := b.fetches.Load()
		away(with{"header.kid": "new"}, coolDown)
		if b.fetches.Load() == before {
			t.Error("nothing was fetched")
		}
		away(with{"header.kid": "new"}, coolDown) // the cool-down
		b.allow(t, nil)
		if s := b.trusted.State(); len(s) != 1 || s[0].Err == nil || s[0].Keys != 1 || s[0].Issuer != b.Issuer {
			t.Errorf("State = %+v, want an error and the old key", s)
		}
	}

	// Without kid a bad signature may be that of a new key.
	b.serve(nil)
	b.rotate(oldKeys)
	b.at = b.at.Add(coolDown)
	b.allow(t, with{"header.kid": nil})
	b.deny(t, with{"header.kid": nil, "aud": "x"}, "aud")
	b.serve(later)
	b.at = b.at.Add(coolDown)
	b.Keys = newTokenBed(t, "ES256").Keys
	away(with{"header.kid": nil}, coolDown)
	b.rotate(oldKeys)
	b.deny(t, with{"aud": "x"}, "aud") // a known key, a clear no

	// A reload goes on with the keys there are.
	next := b.open(t)
	next.Adopt(b.trusted)
	b.serve(later)
	b.trusted = next
	b.allow(t, nil)
	b.trusted = b.open(t)
	away(nil, coolDown)
}

func TestFetchIsShared(t *testing.T) {
	b := newIssuerBed(t, "ES256", nil)
	hold, arrived := make(chan struct{}), make(chan struct{}, 1)
	b.serve(func(w http.ResponseWriter, r *http.Request) { arrived <- struct{}{}; <-hold; b.publish(w) })
	good := b.token(t, nil)
	var wg sync.WaitGroup
	verify := func() {
		if _, err := b.trusted.Verify(context.Background(), good); err != nil {
			t.Error(err)
		}
	}
	// The first one's client goes away; the fetch goes on for the others.
	first, leave := context.WithCancel(context.Background())
	wg.Go(func() { b.trusted.Verify(first, good) })
	<-arrived
	leave()
	for range 20 {
		wg.Go(verify)
	}
	// One who does not want to wait is not kept.
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := b.trusted.Verify(gone, good); !errors.Is(err, ErrNoKeys) {
		t.Errorf("Verify = %v, want ErrNoKeys", err)
	}
	close(hold)
	wg.Wait()
	if n := b.fetches.Load(); n != 1 {
		t.Errorf("%d fetches, want 1", n)
	}
}

func TestFetchRedirects(t *testing.T) {
	b := newIssuerBed(t, "ES256", nil)
	var hops atomic.Int32
	b.serve(func(w http.ResponseWriter, r *http.Request) {
		if hops.Add(-1) >= 0 {
			http.Redirect(w, r, "/next", http.StatusFound)
			return
		}
		b.publish(w)
	})
	for n, good := range map[int32]bool{0: true, 3: true, 4: false} {
		hops.Store(n)
		b.trusted = b.open(t)
		if _, err := b.trusted.Verify(context.Background(), b.token(t, nil)); (err == nil) != good {
			t.Errorf("%d redirects: %v, want good %v", n, err, good)
		}
	}
	// Over http to another host, or another port of this one.
	asked := make(chan string, 1)
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Host
		b.publish(w)
	}))
	defer other.Close()
	b.serve(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) })
	b.trusted = b.open(t)
	_, err := b.trusted.Verify(context.Background(), b.token(t, nil))
	if err == nil || !strings.Contains(err.Error(), "redirect over http") || len(asked) > 0 {
		t.Errorf("Verify = %v, want the redirect refused", err)
	}
	// From https to http, where anybody on the way could answer.
	plain := b.server
	hops.Store(0)
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, plain.URL+"/jwks.json", http.StatusFound)
	}))
	defer secure.Close()
	b.entry.JWKSURL = secure.URL
	b.trusted = b.open(t)
	keys := b.trusted.byName[b.Issuer].keys
	check := keys.client.CheckRedirect
	keys.client = secure.Client()
	keys.client.CheckRedirect = check
	before := b.fetches.Load()
	_, err = b.trusted.Verify(context.Background(), b.token(t, nil))
	if err == nil || !strings.Contains(err.Error(), "redirect from https to http") || b.fetches.Load() != before {
		t.Errorf("Verify = %v, want the redirect refused", err)
	}
}

// An issuer that never gets to the end of its answer is away.
func TestFetchTimesOut(t *testing.T) {
	b := newIssuerBed(t, "ES256", nil)
	left := make(chan struct{})
	b.serve(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"keys":[`)
		w.(http.Flusher).Flush()
		<-r.Context().Done() // the client hangs up
		close(left)
	})
	b.trusted.byName[b.Issuer].keys.timeout = 50 * time.Millisecond
	id, err := b.trusted.Verify(context.Background(), b.token(t, nil))
	if id != nil || !errors.Is(err, ErrNoKeys) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Verify = %v, %v, want ErrNoKeys because of the time", id, err)
	}
	<-left
}

func TestStartFetches(t *testing.T) {
	b := newIssuerBed(t, "ES256", nil)
	fetched := make(chan struct{}, 1)
	b.serve(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=300")
		b.publish(w)
		fetched <- struct{}{}
	})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { b.trusted.Start(ctx); close(done) }()
	<-fetched
	b.allow(t, nil) // waits until the answer is read
	stop()
	<-done
	if n := b.fetches.Load(); n != 1 {
		t.Errorf("%d fetches, want 1", n)
	}
	keys := b.trusted.byName[b.Issuer].keys
	if due := keys.due(); due != 5*time.Minute {
		t.Errorf("due in %v, want 5m", due)
	}
	b.at = b.at.Add(4 * time.Minute)
	if due := keys.due(); due != time.Minute {
		t.Errorf("due in %v, want 1m", due)
	}
	b.at = b.at.Add(time.Hour)
	if due := keys.due(); due != 0 {
		t.Errorf("due in %v, want now", due)
	}
}

func TestMaxAge(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"": refreshDefault, "public, max-age=3600, must-revalidate": time.Hour, "max-age=1": time.Minute, `Max-Age="7200"`: 2 * time.Hour,
		"max-age=99999999": 24 * time.Hour, "max-age=-1": refreshDefault, "max-age=x": refreshDefault, "no-store": time.Minute, "max-age=3600, no-cache": time.Minute,
	} {
		if got := maxAgeOf(http.Header{"Cache-Control": {header}}); got != want {
			t.Errorf("maxAgeOf(%q) = %v, want %v", header, got, want)
		}
	}
}

func TestCheckMedia(t *testing.T) {
	for media, good := range map[string]bool{
		"": true, "application/json": true, "application/json; charset=utf-8": true, "application/jwk-set+json": true, "text/plain": true,
		"application/octet-stream": true, "text/html": false, "application/xml": false, "json": false, ";": false,
	} {
		if err := checkMedia(media); (err == nil) != good {
			t.Errorf("checkMedia(%q) = %v, want good %v", media, err, good)
		}
	}
}

func TestDue(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	away := errors.New("away")
	had := func(k *remoteKeys) *remoteKeys {
		k.set.Store(&jwkSet{})
		return k
	}
	for want, k := range map[time.Duration]*remoteKeys{
		0:          {},
		coolDown:   {tried: now, err: away},
		refreshMin: had(&remoteKeys{tried: now, err: away, fetched: now, maxAge: time.Hour}),
		time.Hour:  had(&remoteKeys{tried: now, fetched: now.Add(time.Hour), maxAge: time.Hour}), // the clock was set back
	} {
		k.now = func() time.Time { return now }
		if got := k.due(); got != want {
			t.Errorf("due = %v, want %v", got, want)
		}
	}
}
