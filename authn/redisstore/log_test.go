package redisstore

import (
	"errors"
	"math"
	"testing"
	"time"

	"gatehouse/authn"
	"gatehouse/authn/authntest"
)

// newLog is a log with a prefix of its own. It is settled at once.
func newLog(t testing.TB, o Options) *Log {
	t.Helper()
	if o.Prefix == "" {
		o.Prefix = nonce()
	}
	l, err := New(o)
	must(t, err)
	l.settle = 0
	t.Cleanup(func() { l.Close() })
	return l
}

func TestLog(t *testing.T) {
	s := startServer(t)
	authntest.TestRevocationLog(t, func(t *testing.T) authn.RevocationLog { return newLog(t, Options{URL: s.url()}) })
}

func TestMember(t *testing.T) {
	at := time.Unix(2e9, 0).UTC()
	for _, r := range []authn.Revocation{
		{Kind: authn.RevokeToken, ID: "t", Expires: at},
		{Kind: authn.RevokeSession, Issuer: "https://a:b/%", ID: "a:b%3A +\n\x00ü", Expires: at},
		{Kind: authn.RevokeUser, Issuer: ":", ID: ":", Generation: 1 << 60, Expires: at},
	} {
		got, ok, err := parseMember(member(r), float64(score(r)))
		if got != r || !ok || err != nil {
			t.Errorf("parseMember(%q) = %+v, %v, %v, want %+v", member(r), got, ok, err, r)
		}
	}
	if _, ok, err := parseMember("epoch X", math.Inf(1)); ok || err != nil {
		t.Errorf("the epoch is taken for a revocation: %v, %v", ok, err)
	}
	for _, name := range []string{"token:a", "token::%zz", "token::a:b", "user::a:x", "user::a"} {
		if r, ok, err := parseMember(name, 1); err == nil {
			t.Errorf("parseMember(%q) = %+v, %v, want an error", name, r, ok)
		}
	}
	if _, _, err := parseMember("token::a", math.NaN()); err == nil {
		t.Error("no number is taken for a time")
	}
	// What is rounded is rounded up.
	r := authn.Revocation{Kind: authn.RevokeToken, ID: "t", Expires: time.Unix(1e9, 1)}
	if got := score(r); got != 1e9+1+int64(authn.RevocationMargin/time.Second) {
		t.Errorf("score = %d", got)
	}
}

// Adding is one step, and what has expired goes with it.
func TestAppendTrims(t *testing.T) {
	s := startServer(t)
	l := newLog(t, Options{URL: s.url(), Prefix: "p"})
	past := authn.Revocation{Kind: authn.RevokeToken, ID: "old", Expires: time.Now().Add(-time.Hour)}
	must(t, l.Append(ctx, past))
	must(t, l.Append(ctx, authn.Revocation{Kind: authn.RevokeToken, ID: "new", Expires: time.Now().Add(time.Hour)}))
	got, err := s.admin("ZRANGE", "{p}:revoked", 0, -1).StringSlice()
	if err != nil || len(got) != 1 || got[0] != "token::new" {
		t.Errorf("the set holds %q, %v, want only token::new", got, err)
	}
	// An entry that says nothing new is no change; a later expiry is.
	n := func() int64 { n, _ := s.admin("XLEN", "{p}:changes").Int64(); return n }
	before := n()
	r := authn.Revocation{Kind: authn.RevokeToken, ID: "new", Expires: time.Now().Add(30 * time.Minute)}
	must(t, l.Append(ctx, r))
	if n() != before {
		t.Errorf("an earlier expiry made a change")
	}
	r.Expires = time.Now().Add(2 * time.Hour)
	must(t, l.Append(ctx, r))
	if n() != before+1 {
		t.Errorf("a later expiry made no change")
	}
}

// Whoever was away for longer than the changes reach back reads the set again.
func TestGap(t *testing.T) {
	s := startServer(t)
	for name, lose := range map[string]func(l *Log){
		"trimmed":        func(l *Log) { s.admin("XTRIM", l.keys[1], "MAXLEN", 1) },
		"changes gone":   func(l *Log) { s.admin("DEL", l.keys[1]) },
		"set gone":       func(l *Log) { s.admin("DEL", l.keys[0]) },
		"epoch gone":     func(l *Log) { s.admin("DEL", l.keys[2]) },
		"everything":     func(l *Log) { s.admin("DEL", l.keys[0], l.keys[1], l.keys[2]) },
		"another's word": func(l *Log) { rewriteLast(s, l) },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLog(t, Options{URL: s.url()})
			must(t, l.Append(ctx, authn.Revocation{Kind: authn.RevokeToken, ID: "a", Expires: time.Now().Add(time.Hour)}))
			entries, cursor, err := l.Read(ctx, "", 0)
			if err != nil || len(entries) != 1 {
				t.Fatalf("Read = %v, %v, want one entry", entries, err)
			}
			_, cursor, err = l.Read(ctx, cursor, 0)
			must(t, err)
			must(t, l.Append(ctx, authn.Revocation{Kind: authn.RevokeToken, ID: "b", Expires: time.Now().Add(time.Hour)}))
			lose(l)
			if got, _, err := l.Read(ctx, cursor, 0); !errors.Is(err, authn.ErrLogGap) {
				t.Errorf("Read = %v, %v, want ErrLogGap", got, err)
			}
			if _, _, err := l.Read(ctx, "", 0); err != nil {
				t.Errorf("Read from the start = %v", err)
			}
		})
	}
}

// rewriteLast replaces the changes by entries of the same IDs and other words, as
// a server would that lost the last ones and counted on.
func rewriteLast(s *server, l *Log) {
	reply, err := s.admin("XRANGE", l.keys[1], "-", "+").Slice()
	must(s.t, err)
	s.admin("DEL", l.keys[1])
	for _, e := range reply {
		id := e.([]any)[0]
		must(s.t, s.admin("XADD", l.keys[1], id, "n", "other").Err())
	}
}
