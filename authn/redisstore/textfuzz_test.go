package redisstore

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"gatehouse/authn"
)

// FuzzMember: a revocation is read as it was written, and never forgotten
// earlier. Of other members, none that begins as a revocation passes for
// nothing, and what is read as one is a certain one.
func FuzzMember(f *testing.F) {
	f.Add(uint8(0), "", "t", int64(0), int64(2e9), int64(1), "token::t", 2e9)
	f.Add(uint8(1), "https://a:b/%", "a:b%3A +\n\x00ü", int64(0), int64(0), int64(0), "epoch X", math.Inf(1))
	f.Add(uint8(2), ":", "\xff", int64(-1), int64(-5), int64(0), "user::a:01", math.NaN())
	f.Fuzz(func(t *testing.T, kind uint8, issuer, id string, generation, seconds, nanos int64, name string, at float64) {
		kinds := []authn.RevocationKind{authn.RevokeToken, authn.RevokeSession, authn.RevokeUser}
		r := authn.Revocation{Kind: kinds[kind%3], Issuer: issuer, ID: id}
		if r.Kind == authn.RevokeUser {
			r.Generation = generation
		}
		// As far as Redis tells whole numbers apart: some thousand years.
		r.Expires = time.Unix(seconds%(1<<38), nanos&(1<<29-1)).UTC()
		got, ok, err := parseMember(member(r), float64(score(r)))
		if got.Expires.Before(r.Expires) || got.Expires.Sub(r.Expires) >= time.Second && r.Expires.Unix() >= 0 {
			t.Fatalf("%+v expires at %v when it is read", r, got.Expires)
		}
		if got.Expires = r.Expires; got != r || !ok || err != nil {
			t.Fatalf("parseMember(%q) = %+v, %v, %v, want %+v", member(r), got, ok, err, r)
		}
		for _, name := range []string{name, string(r.Kind) + ":" + name} {
			got, ok, err := parseMember(name, at)
			begins := strings.HasPrefix(name, "token:") || strings.HasPrefix(name, "session:") || strings.HasPrefix(name, "user:")
			if begins && !ok && err == nil || ok && err != nil || !ok && got != (authn.Revocation{}) {
				t.Fatalf("parseMember(%q, %v) = %+v, %v, %v", name, at, got, ok, err)
			}
			if ok {
				again, ok, err := parseMember(member(got), float64(score(got)))
				if !again.Expires.Equal(got.Expires) {
					t.Fatalf("%+v expires at %v when it is read again", got, again.Expires)
				}
				if again.Expires = got.Expires; again != got || !ok || err != nil {
					t.Fatalf("%q is read as %+v, and that as %+v, %v, %v", name, got, again, ok, err)
				}
			}
		}
	})
}

// FuzzReply: whatever Redis answers, and whatever cursor came from where, no
// revocation in it is passed over unsaid, and a cursor is written as what it
// was read as.
func FuzzReply(f *testing.F) {
	const echo = "e"
	head := "e\nok\nrun\nepoch\n0\n5-0\nn"
	f.Add(head, "at/1-0/n/epoch")
	f.Add(head+"\n1-0\ntoken::t\n2000000000\nn\n2-0\n\n\nm", "load/1-0/n/epoch/run/5000")
	f.Add(head+"\n1-0\nuser::t\n2000000000\nn", "load/////-1")
	f.Add("x\ngap\n\n\n\n\n", "")
	l, err := New(Options{URL: "redis://127.0.0.1:1/0"})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { l.Close() })
	f.Fuzz(func(t *testing.T, text, cursor string) {
		if p, err := parsePlace(cursor); err == nil {
			if again, err := parsePlace(p.String()); again != p || err != nil {
				t.Fatalf("cursor %q is %+v, and that %+v, %v", cursor, p, again, err)
			}
		}
		fields := strings.Split(text, "\n")
		answer := make([]any, len(fields))
		for i, s := range fields {
			answer[i] = s
		}
		seen, err := l.look(redis.NewCmdResult(answer, nil), nil, echo)
		if err != nil {
			if !errors.Is(err, errMalformed) && !strings.Contains(err.Error(), "want ") || len(seen.entries) > 0 {
				t.Fatalf("look(%q) = %+v, %v", fields, seen, err)
			}
			return
		}
		want := 0
		for i := 7; i < len(fields); i += 4 {
			for _, kind := range []authn.RevocationKind{authn.RevokeToken, authn.RevokeSession, authn.RevokeUser} {
				if fields[i+1] == string(kind) || strings.HasPrefix(fields[i+1], fmt.Sprint(kind, ":")) {
					want++
				}
			}
		}
		if len(seen.entries) != want || fields[0] != echo || seen.gap != (fields[1] == "gap") {
			t.Fatalf("look(%q) = %+v, want %d revocations", fields, seen, want)
		}
	})
}
