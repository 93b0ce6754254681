package authn

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatehouse/config"
)

// lifeBed is a key folder, and gateways on it that share a clock.
type lifeBed struct {
	t   *testing.T
	cfg *config.Config
	at  time.Time
}

func newLifeBed(t *testing.T) *lifeBed {
	b := &lifeBed{t: t, at: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)}
	b.cfg = &config.Config{DataDir: t.TempDir(), Tokens: config.Tokens{
		Issuer: "https://gw.example", Audience: "gatehouse", Algorithm: "ES256", AccessTTL: time.Hour, Leeway: 30 * time.Second}}
	return b
}

// rotate makes a key as GenerateKey would have at that time.
func (b *lifeBed) rotate(algorithm string, made time.Time) (id string) {
	b.t.Helper()
	return b.rotateSeen(algorithm, made, made)
}

// rotateSeen is rotate by a clock that is not that of the file system.
func (b *lifeBed) rotateSeen(algorithm string, made, seen time.Time) (id string) {
	b.t.Helper()
	k, err := GenerateKey(b.t.TempDir(), algorithm)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.MkdirAll(KeyDir(b.cfg), 0o700); err != nil {
		b.t.Fatal(err)
	}
	id = strings.Replace(made.UTC().Format(kidTime), ".", "-", 1) + k.ID[len(kidTime):]
	path := filepath.Join(KeyDir(b.cfg), strings.Replace(filepath.Base(k.File), k.ID, id, 1))
	if err := errors.Join(os.Rename(k.File, path), os.Chtimes(path, seen, seen)); err != nil {
		b.t.Fatal(err)
	}
	return id
}

// gateway is one that has read the folder just now.
func (b *lifeBed) gateway() *Tokens {
	b.t.Helper()
	keys, err := LoadKeys(b.cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	return &Tokens{Keys: keys, Issuer: b.cfg.Tokens.Issuer, Audience: "gatehouse",
		TTL: b.cfg.Tokens.AccessTTL, Leeway: b.cfg.Tokens.Leeway, Now: func() time.Time { return b.at }}
}

// issue is a token, and the key that signed it.
func (b *lifeBed) issue(g *Tokens, ttl time.Duration) (token, kid string) {
	b.t.Helper()
	token, _, err := g.Issue(ann, "s", ttl)
	if err != nil {
		b.t.Fatal(err)
	}
	header, _, err := Inspect(token)
	if err != nil {
		b.t.Fatal(err)
	}
	return token, header["kid"].(string)
}

func (b *lifeBed) signs(g *Tokens, want string) (token string) {
	b.t.Helper()
	token, kid := b.issue(g, g.TTL)
	if kid != want {
		b.t.Errorf("at %s %s signs, want %s", b.at, kid, want)
	}
	return token
}

func (b *lifeBed) accepts(what string, g *Tokens, token string) {
	b.t.Helper()
	if _, err := g.Verify(context.Background(), token); err != nil {
		b.t.Errorf("%s at %s: %v", what, b.at, err)
	}
}

func (b *lifeBed) refuses(what string, g *Tokens, token, why string) {
	b.t.Helper()
	if _, err := g.Verify(context.Background(), token); err == nil || !strings.Contains(err.Error(), why) {
		b.t.Errorf("%s at %s: %v, want %q", what, b.at, err, why)
	}
}

func (b *lifeBed) shows(g *Tokens, kids ...string) {
	b.t.Helper()
	set, err := parseJWKS(g.Keys.JWKS(b.at))
	if err != nil {
		b.t.Fatal(err)
	}
	var shown []string
	for _, k := range set.keys {
		shown = append(shown, k.kid)
	}
	if got, want := strings.Join(shown, " "), strings.Join(kids, " "); got != want {
		b.t.Errorf("JWKS at %s has %s, want %s", b.at, got, want)
	}
}

func (b *lifeBed) info(id string) KeyInfo {
	b.t.Helper()
	for _, k := range b.gateway().Keys.List(b.at) {
		if k.ID == id {
			return k
		}
	}
	b.t.Fatalf("no key %s", id)
	return KeyInfo{}
}

// A rotation, seen by a gateway at once and by another five seconds later:
// neither ever refuses the other's tokens.
func TestRotationOfReplicas(t *testing.T) {
	b := newLifeBed(t)
	first := b.rotate("ES256", b.at.Add(-24*time.Hour))
	slow := b.gateway()
	began := b.at
	second := b.rotate("ES256", b.at)
	quick := b.gateway()
	b.shows(quick, first, second)

	last := "" // token of the first key
	for s := range 20 {
		b.at = began.Add(time.Duration(s) * time.Second)
		if s == 5 {
			slow = b.gateway()
		}
		signer := first
		if s >= 10 {
			signer = second
		}
		token := b.signs(quick, signer)
		b.accepts("the slow one", slow, token)
		b.accepts("the quick one", quick, b.signs(slow, signer))
		if signer == first {
			last = token
		}
	}
	if k := b.info(first); k.Signs || k.Retired || !k.Until.Equal(began.Add(10*time.Second+time.Hour+time.Minute)) {
		t.Errorf("the first key after the rotation: %+v", k)
	}

	// The last token of the first key lives out its time, and then the key does.
	b.at = began.Add(9*time.Second + time.Hour + 29*time.Second)
	b.accepts("its last second", quick, last)
	b.shows(slow, first, second)
	b.at = b.at.Add(time.Second)
	b.refuses("after it", quick, last, "expired")
	b.at = began.Add(10*time.Second + time.Hour + time.Minute)
	b.shows(slow, second)
	b.refuses("a token of a retired key", quick, last, `key "`+first+`" is retired: its last token expired at 2026-03-04T06:07:17Z`)
	if k := b.info(first); !k.Retired || k.Signs {
		t.Errorf("the first key at its end: %+v", k)
	}
	b.signs(quick, second)

	// Without its successor it would be the one again.
	if err := os.Remove(b.info(second).File); err != nil {
		t.Fatal(err)
	}
	b.accepts("a token of the only key", b.gateway(), b.signs(b.gateway(), first))
}

func TestSigner(t *testing.T) {
	b := newLifeBed(t)
	// The very first key signs at once, and goes on while a second is new.
	first := b.rotate("ES256", b.at)
	b.signs(b.gateway(), first)
	b.at = b.at.Add(time.Second)
	second := b.rotate("ES256", b.at)
	b.signs(b.gateway(), first)
	if k := b.info(second); k.Signs || !k.SignsFrom.Equal(b.at.Add(keySettles)) {
		t.Errorf("a new key: %+v", k)
	}
	// Of several new ones the newest that has settled signs.
	b.at = b.at.Add(5 * time.Second)
	third := b.rotate("ES256", b.at)
	b.at = b.at.Add(5 * time.Second)
	b.signs(b.gateway(), second)
	b.at = b.at.Add(5 * time.Second)
	b.signs(b.gateway(), third)
	// One without the others signs at once: the old one's file was removed to
	// refuse its tokens.
	lone := newLifeBed(t)
	only := lone.rotate("ES256", lone.at)
	lone.signs(lone.gateway(), only)

	// Another algorithm is another key, which settles as well.
	b.cfg.Tokens.Algorithm = "EdDSA"
	fourth := b.rotate("EdDSA", b.at)
	b.signs(b.gateway(), third)
	b.at = b.at.Add(keySettles)
	b.signs(b.gateway(), fourth)
	// The old one may sign still, at a gateway that was not told yet: it does
	// not retire.
	b.at = b.at.Add(1000 * time.Hour)
	if k := b.info(third); k.Retired || !k.Until.IsZero() {
		t.Errorf("a key of another algorithm: %+v", k)
	}
	b.cfg.Tokens.Algorithm = "ES256"
	b.signs(b.gateway(), third)
	// And while a later one of the old algorithm is new, the key of that signs,
	// not the other.
	b.rotate("ES256", b.at)
	b.signs(b.gateway(), third)

	// A clock that was ahead is no reason to wait for years.
	ahead := newLifeBed(t)
	ahead.rotate("ES256", ahead.at.Add(-time.Hour))
	late := ahead.rotateSeen("ES256", ahead.at.Add(10000*time.Hour), ahead.at)
	ahead.at = ahead.at.Add(keySettles)
	ahead.signs(ahead.gateway(), late)
}

// What a key has signed for longer than an hour is noted beside it.
func TestKeyServesItsTokens(t *testing.T) {
	b := newLifeBed(t)
	first := b.rotate("ES256", b.at.Add(-time.Hour))
	note := filepath.Join(KeyDir(b.cfg), first+".ttl")
	b.issue(b.gateway(), time.Hour)
	if _, err := os.Stat(note); err == nil {
		t.Error("an hour is noted")
	}
	long, kid := b.issue(b.gateway(), 720*time.Hour)
	if data, err := os.ReadFile(note); kid != first || err != nil || string(data) != "720h0m0s\n" {
		t.Errorf("note of %s: %q, %v", kid, data, err)
	}
	b.issue(b.gateway(), 2*time.Hour) // takes nothing back
	rotated := b.at
	b.rotate("ES256", b.at)
	b.at = rotated.Add(719 * time.Hour)
	b.accepts("a token of 720 hours", b.gateway(), long)
	b.shows(b.gateway(), first, b.gateway().Keys.signer.id)
	b.at = rotated.Add(721 * time.Hour)
	b.shows(b.gateway(), b.gateway().Keys.signer.id)

	// access_ttl is noted by the gateway, since it can be shortened.
	b = newLifeBed(t)
	b.cfg.Tokens.AccessTTL = 24 * time.Hour
	first = b.rotate("ES256", b.at.Add(-time.Hour))
	day, _ := b.issue(b.gateway(), 24*time.Hour)
	b.cfg.Tokens.AccessTTL = time.Minute
	b.rotate("ES256", b.at)
	b.at = b.at.Add(23 * time.Hour)
	b.accepts("a token of the longer access_ttl", b.gateway(), day)
	// So are assertions, which apps verify with the JWKS.
	b.cfg.Identity.Assertion = config.Assertion{Enabled: true, TTL: 48 * time.Hour}
	if k := b.info(first); k.Until.Sub(b.at) < 24*time.Hour {
		t.Errorf("with assertions of 48 hours it ends at %v", k.Until)
	}

	// Who only looks notes nothing.
	b = newLifeBed(t)
	b.cfg.Tokens.AccessTTL = 24 * time.Hour
	first = b.rotate("ES256", b.at)
	if _, err := ReadKeys(b.cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(KeyDir(b.cfg), first+".ttl")); err == nil {
		t.Error("ReadKeys writes")
	}
}

func TestKeyNoteProblems(t *testing.T) {
	b := newLifeBed(t)
	first := b.rotate("ES256", b.at)
	note := filepath.Join(KeyDir(b.cfg), first+".ttl")
	for _, content := range []string{"", "720", "-1h", "0s", "1h\n2h", strings.Repeat("1h", 70<<10)} {
		if err := os.WriteFile(note, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		var problems config.Problems
		if _, err := LoadKeys(b.cfg); !errors.As(err, &problems) || !strings.Contains(err.Error(), first+".ttl: want") {
			t.Errorf("with the note %.20q: %v", content, err)
		}
	}
	if err := os.Remove(note); err != nil {
		t.Fatal(err)
	}

	// A life that cannot be noted is not given.
	g := b.gateway()
	blocked := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	g.Keys.signer.file = filepath.Join(blocked, "keys", "k.pem")
	if token, _, err := g.Issue(ann, "", 720*time.Hour); err == nil || token != "" || !strings.Contains(err.Error(), "note life time with key") {
		t.Errorf("IssueFor = %q, %v, want an error", token, err)
	}
	b.accepts("a short one", g, b.signs(g, first))
}
