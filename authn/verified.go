package authn

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"
)

// Verified is a [Verifier] that remembers the tokens whose signature it has
// found good, so that each costs its public-key arithmetic once. Create one with
// NewVerified.
//
// # Why
//
// A verdict is remembered under the SHA-256 of the whole token, signature
// included. The hash has to be one that nobody can find a second text for: with
// a weaker one, a forged token could be made to meet a good one's entry. And
// with the hash alone no credential stays in memory. Comparing hashes need not
// take the same time for all of them: to learn anything from it, a stranger would
// have to choose what his tokens hash to.
//
// Only good verdicts are remembered, and only the part of a verdict that does
// not change with time. That the key is still in use, that the token has begun
// and not ended, and the checks (revocations, generations) are asked of every
// request. Where any of these fails, the token is verified as if it had never
// been seen, which also finds the words for the refusal. So the answer is always
// that of [Join]; a fuzz test holds it to that.
//
// A configuration has a Verified of its own. Whatever a reload changes, keys,
// issuers or claims, nothing that was believed before it counts after it.
type Verified struct {
	provers []prover
	claims  []string
	checks  []Check
	leeway  time.Duration
	now     func() time.Time
	set     verifiedSet
}

// A prover is the part of a Verifier whose verdict lasts: the signature and
// what the claims say. Its error is ErrNotMine or a Refusal; whether the token
// has expired it does not ask.
type prover interface {
	prove(ctx context.Context, u *unproven) (*Identity, proof, error)
}

// A proof is what an identity was believed for.
type proof struct {
	key *key // of ours

	keys *remoteKeys // of another issuer, as they were published then
	set  *jwkSet
}

// holds reports whether the key would be found now as it was then.
func (p *proof) holds(now time.Time) bool {
	if p.key != nil {
		return !p.key.retired(now)
	}
	return p.keys.current() == p.set
}

// VerifiedBytes is the usual limit of what a Verified remembers: 100,000 tokens
// of ours, and then some.
const VerifiedBytes = 64 << 20

// VerifiedOptions say what a Verified knows.
type VerifiedOptions struct {
	Tokens  *Tokens
	Issuers *TrustedIssuers // of the same leeway and clock; nil: none
	Checks  []Check         // of every request
	// Claims are the names of all claims that anybody will ask of an identity,
	// as [Identity.Claim] has them. The others are forgotten: a claim set is
	// larger than all else.
	Claims []string
	Bytes  int // of memory, about; 0: VerifiedBytes
}

// NewVerified remembers nothing yet.
func NewVerified(o VerifiedOptions) *Verified {
	v := &Verified{provers: []prover{o.Tokens}, claims: o.Claims, checks: o.Checks, leeway: o.Tokens.Leeway, now: o.Tokens.now}
	if o.Issuers != nil {
		v.provers = append(v.provers, o.Issuers)
	}
	v.set.limit(o.Bytes)
	return v
}

// Verify is a [Verifier]'s. It allocates nothing for a token that it remembers.
func (v *Verified) Verify(ctx context.Context, token string) (*Identity, error) {
	if len(token) > maxToken {
		return nil, ErrInvalidToken.Because(errTooLong(token))
	}
	hash := hashToken(token)
	id := v.recall(&hash)
	if id == nil {
		var err error
		if id, err = v.prove(ctx, token, hash); err != nil {
			return nil, err
		}
	}
	for _, check := range v.checks {
		if err := check(ctx, id); err != nil {
			return nil, err
		}
	}
	return id, nil
}

// hashToken copies what is not too long, since a conversion to []byte would
// allocate.
func hashToken(token string) [sha256.Size]byte {
	var text [1024]byte
	if len(token) > len(text) {
		return sha256.Sum256([]byte(token))
	}
	return sha256.Sum256(text[:copy(text[:], token)])
}

// recall is the identity that is remembered and would be believed now, or nil.
func (v *Verified) recall(hash *[sha256.Size]byte) *Identity {
	e := v.set.find(hash)
	if e == nil {
		return nil
	}
	now := v.now()
	begun := now.Add(v.leeway).UnixNano() >= e.notBefore
	if !begun || !now.Before(e.identity.Expires.Add(v.leeway)) || !e.proof.holds(now) {
		return nil
	}
	e.use()
	return &e.identity
}

// prove verifies a token and remembers it.
func (v *Verified) prove(ctx context.Context, token string, hash [sha256.Size]byte) (*Identity, error) {
	u, err := readToken(token)
	if err != nil {
		return nil, ErrInvalidToken.Because(err)
	}
	for _, p := range v.provers {
		id, why, err := p.prove(ctx, u)
		if errors.Is(err, ErrNotMine) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := Unexpired(v.leeway, v.now)(ctx, id); err != nil {
			return nil, err
		}
		e := v.entry(id, why)
		e.hash = hash
		v.set.add(e)
		return &e.identity, nil
	}
	return nil, ErrInvalidToken.Because(errUntrustedIssuer)
}

// entry is what is remembered of id. It holds on to nothing of the token.
func (v *Verified) entry(id *Identity, why proof) *verifiedEntry {
	e := &verifiedEntry{proof: why, notBefore: id.Issued.UnixNano()}
	c := claimReader{claims: id.Claims}
	if nbf := c.date("nbf", false); nbf.After(id.Issued) {
		e.notBefore = nbf.UnixNano()
	}
	e.identity = *id
	e.identity.kept = &e.kept
	e.identity.Claims = someClaims(id.Claims, v.claims)
	text := packStrings(&e.identity)
	e.cost = entryBytes + int32(text+16*len(id.Roles)+sizeOf(e.identity.Claims))
	return e
}

// packStrings copies the strings of id, which are parts of the whole claim set,
// into one, and returns how long that is.
func packStrings(id *Identity) int {
	id.Roles = append(make([]string, 0, len(id.Roles)), id.Roles...)
	parts := append(make([]*string, 0, 16), &id.ID, &id.Email, &id.Name, &id.Token, &id.Session)
	for i := range id.Roles {
		parts = append(parts, &id.Roles[i])
	}
	var b strings.Builder
	size := 0
	for _, p := range parts {
		size += len(*p)
	}
	b.Grow(size)
	for _, p := range parts {
		b.WriteString(*p)
	}
	rest := b.String()
	for _, p := range parts {
		*p, rest = rest[:len(*p)], rest[len(*p):]
	}
	return size
}

// someClaims is what lookup needs for names, copied; nil for nothing.
func someClaims(all map[string]any, names []string) map[string]any {
	var some map[string]any
	for _, name := range names {
		first, _, _ := strings.Cut(name, ".")
		for _, n := range [...]string{name, first} {
			if claim, there := all[n]; there {
				if some == nil {
					some = make(map[string]any)
				}
				some[n] = cloneClaim(claim)
			}
		}
	}
	return some
}

func cloneClaim(claim any) any {
	switch c := claim.(type) {
	case string:
		return strings.Clone(c)
	case json.Number:
		return json.Number(strings.Clone(string(c)))
	case []any:
		list := make([]any, len(c))
		for i := range c {
			list[i] = cloneClaim(c[i])
		}
		return list
	case map[string]any:
		object := make(map[string]any, len(c))
		for name, member := range c {
			object[strings.Clone(name)] = cloneClaim(member)
		}
		return object
	}
	return claim
}

// sizeOf is about how much memory a claim takes.
func sizeOf(claim any) int {
	const header, slot, table = 16, 40, 56
	switch c := claim.(type) {
	case string:
		return header + len(c)
	case json.Number:
		return header + len(c)
	case []any:
		n := 2 * header
		for _, one := range c {
			n += header + sizeOf(one)
		}
		return n
	case map[string]any:
		if c == nil {
			return 0
		}
		n := table + 8*slot // a map begins with eight places
		for name, member := range c {
			n += slot + len(name) + sizeOf(member)
		}
		return n
	}
	return header
}

// Run forgets what has ended, once a minute until ctx ends.
func (v *Verified) Run(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			v.sweep()
		}
	}
}

func (v *Verified) sweep() {
	now := v.now()
	v.set.sweep(func(e *verifiedEntry) bool {
		return now.Before(e.identity.Expires.Add(v.leeway)) && e.proof.holds(now)
	})
}

// A keptList is what others keep with an identity that is remembered.
type keptList struct {
	first atomic.Pointer[keptStrings]
	bytes atomic.Int32
}

type keptStrings struct {
	key     any
	strings []string
	next    *keptStrings
}

// maxKept is how many bytes can be kept with one identity.
const maxKept = 1 << 10

// Kept returns what was kept with id under key, or nil.
func (id *Identity) Kept(key any) []string {
	if id.kept == nil {
		return nil
	}
	for k := id.kept.first.Load(); k != nil; k = k.next {
		if k.key == key {
			return k.strings
		}
	}
	return nil
}

// Keep keeps with id what was made from it, for as long as its token is
// remembered: Kept returns it then. There may be no room, or no memory of the
// token at all. The strings must not be changed any more.
func (id *Identity) Keep(key any, made []string) {
	if id.kept == nil {
		return
	}
	k := &keptStrings{key: key, strings: made}
	size := int(unsafe.Sizeof(*k))
	for i, s := range made {
		// Most are strings of the identity as they are, which then stay the
		// only copy.
		size += 16
		switch s {
		case id.ID:
			made[i] = id.ID
		case id.Email:
			made[i] = id.Email
		case id.Name:
			made[i] = id.Name
		default:
			size += len(s)
		}
	}
	if id.kept.bytes.Add(int32(size)) > maxKept {
		id.kept.bytes.Add(int32(-size))
		return
	}
	for {
		k.next = id.kept.first.Load()
		if id.kept.first.CompareAndSwap(k.next, k) {
			return
		}
	}
}
