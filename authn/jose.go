package authn

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// golang-jwt signs and checks signatures here, and does nothing else: as a
// parser it takes other spellings of a base64 character, newlines inside the
// signature, a payload of null, crit and b64:false.

// maxToken is the longest token that is looked at, in bytes.
const maxToken = 8 << 10

// An algorithm of RFC 7518, or EdDSA of RFC 8037 with Ed25519.
type algorithm struct {
	method jwt.SigningMethod
	family string         // the kty of its keys: oct, RSA, EC, OKP
	curve  elliptic.Curve // of EC keys
	ours   bool           // may sign the gateway's own tokens
}

var algorithms = map[string]algorithm{
	"HS256": {jwt.SigningMethodHS256, "oct", nil, true},
	"RS256": {jwt.SigningMethodRS256, "RSA", nil, true},
	"RS384": {jwt.SigningMethodRS384, "RSA", nil, false},
	"RS512": {jwt.SigningMethodRS512, "RSA", nil, false},
	"PS256": {exactSalt(jwt.SigningMethodPS256), "RSA", nil, true},
	"PS384": {exactSalt(jwt.SigningMethodPS384), "RSA", nil, false},
	"PS512": {exactSalt(jwt.SigningMethodPS512), "RSA", nil, false},
	"ES256": {jwt.SigningMethodES256, "EC", elliptic.P256(), true},
	"ES384": {jwt.SigningMethodES384, "EC", elliptic.P384(), true},
	"ES512": {jwt.SigningMethodES512, "EC", elliptic.P521(), false},
	"EdDSA": {jwt.SigningMethodEdDSA, "OKP", nil, true},
}

// exactSalt takes only signatures whose salt is as long as the hash, as
// RFC 7518, section 3.5 says. golang-jwt's own method takes any length.
func exactSalt(m *jwt.SigningMethodRSAPSS) jwt.SigningMethod {
	exact := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}
	return &jwt.SigningMethodRSAPSS{SigningMethodRSA: m.SigningMethodRSA, Options: exact, VerifyOptions: exact}
}

// ourAlgorithms are the names that a key of the gateway may have.
func ourAlgorithms() []string { return algorithmNames(func(a algorithm) bool { return a.ours }) }

// issuerAlgorithms are what trusted issuers may sign with: no shared secrets.
func issuerAlgorithms() []string {
	return algorithmNames(func(a algorithm) bool { return a.family != "oct" })
}

func algorithmNames(which func(algorithm) bool) []string {
	names := slices.Sorted(maps.Keys(algorithms))
	return slices.DeleteFunc(names, func(n string) bool { return !which(algorithms[n]) })
}

// A jws is the compact form of RFC 7515, section 7.1, taken apart. Nothing in
// it is proven yet.
type jws struct {
	signed    string // header.payload, as sent: what the signature covers
	header    []byte
	payload   []byte
	signature []byte
}

var base64url = base64.RawURLEncoding.Strict()

// splitJWS takes token apart. Every jws has exactly one spelling: no padding,
// no white space, no unused bits set in a last character.
func splitJWS(token string) (jws, error) {
	if len(token) > maxToken {
		return jws{}, errTooLong(token)
	}
	for i := range len(token) {
		if c := token[i]; !isDigit(c) && !isLetter(c) && c != '-' && c != '_' && c != '.' {
			return jws{}, fmt.Errorf("byte %q at %d is not of a token", c, i)
		}
	}
	first, rest, _ := strings.Cut(token, ".")
	payload, signature, ok := strings.Cut(rest, ".")
	if !ok || strings.Contains(signature, ".") {
		return jws{}, fmt.Errorf("token of %d parts, want 3", strings.Count(token, ".")+1)
	}
	if first == "" || signature == "" {
		return jws{}, errors.New("token with an empty part")
	}
	j := jws{signed: token[:len(first)+1+len(payload)]}
	for _, part := range []struct {
		name, text string
		into       *[]byte
	}{{"header", first, &j.header}, {"payload", payload, &j.payload}, {"signature", signature, &j.signature}} {
		// Decoding skips \r and \n even when strict: the loop above has
		// refused them.
		raw, err := base64url.DecodeString(part.text)
		if err != nil {
			return jws{}, fmt.Errorf("%s is not base64url in its one form", part.name)
		}
		*part.into = raw
	}
	return j, nil
}

func errTooLong(token string) error {
	return fmt.Errorf("token of %d bytes, want at most %d", len(token), maxToken)
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// A joseHeader is what is read of a header. Keys that a token brings along or
// points to (jwk, jku, x5u, x5c) are nowhere read.
type joseHeader struct {
	algorithm      string
	kid, typ       string
	hasKID, hasTyp bool
	members        map[string]any
}

func (h joseHeader) has(name string) bool {
	_, there := h.members[name]
	return there
}

var headerNames = set("alg", "kid", "typ", "cty", "crit", "b64", "zip", "enc", "jwk", "jku", "x5u", "x5c", "x5t")

// Header members that change what a token means (crit, b64, zip, enc), or that
// no honest issuer sends (jwk). jku, x5u and x5c are refused in our own tokens
// only: Cloud Foundry's UAA sends jku with every token.
var (
	refusedMembers     = []string{"crit", "b64", "zip", "enc", "jwk"}
	refusedMembersOurs = []string{"jku", "x5u", "x5c"}
)

func readHeader(data []byte) (joseHeader, error) {
	object, err := readObject(data)
	if err != nil {
		return joseHeader{}, fmt.Errorf("header: %w", err)
	}
	if err := checkNames(object, headerNames); err != nil {
		return joseHeader{}, fmt.Errorf("header: %w", err)
	}
	h := joseHeader{members: object}
	for _, name := range refusedMembers {
		if h.has(name) {
			return joseHeader{}, fmt.Errorf("header: %q is not accepted", name)
		}
	}
	var hasAlgorithm bool
	for _, member := range []struct {
		name string
		into *string
		has  *bool
	}{{"alg", &h.algorithm, &hasAlgorithm}, {"kid", &h.kid, &h.hasKID}, {"typ", &h.typ, &h.hasTyp}} {
		v, there := object[member.name]
		if !there {
			continue
		}
		text, ok := v.(string)
		if !ok || text == "" || hasControl(text) {
			return joseHeader{}, fmt.Errorf("header: %q is not a name", member.name)
		}
		*member.into, *member.has = text, true
	}
	if !hasAlgorithm {
		return joseHeader{}, errors.New(`header: "alg" is missing`)
	}
	return h, nil
}

// A joseKey is one key with the one algorithm it is for. It is checked when it
// is made, not when it is used.
type joseKey struct {
	algorithm string
	public    any // *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey; []byte for HS256
	private   any // nil: verifies only
}

var errBadSignature = errors.New("signature does not verify")

// verify is the signature step.
func (k *joseKey) verify(j jws) error {
	if err := algorithms[k.algorithm].method.Verify(j.signed, j.signature, k.public); err != nil {
		return errBadSignature
	}
	return nil
}

// sign returns the compact form of header and payload.
func (k *joseKey) sign(header, payload []byte) (string, error) {
	if k.private == nil {
		return "", errors.New("this key can only verify")
	}
	signed := base64url.EncodeToString(header) + "." + base64url.EncodeToString(payload)
	signature, err := algorithms[k.algorithm].method.Sign(signed, k.private)
	if err != nil {
		return "", fmt.Errorf("sign with %s: %w", k.algorithm, err)
	}
	return signed + "." + base64url.EncodeToString(signature), nil
}

// newPublic is a key that verifies; the error says what is wrong with public
// as a key for the algorithm.
func newPublic(name string, public any) (*joseKey, error) {
	a, ok := algorithms[name]
	if !ok || a.family == "oct" {
		return nil, fmt.Errorf("algorithm %q: want one of %s", name, strings.Join(issuerAlgorithms(), ", "))
	}
	var kind, family string
	switch p := public.(type) {
	case *rsa.PublicKey:
		kind, family = "RSA", "RSA"
	case *ecdsa.PublicKey:
		kind, family = "EC "+p.Curve.Params().Name, "EC"
	case ed25519.PublicKey:
		kind, family = "Ed25519", "OKP"
	default:
		return nil, fmt.Errorf("key of type %T, want RSA, EC or Ed25519", public)
	}
	if family != a.family {
		return nil, fmt.Errorf("%s key, want one for %s", kind, name)
	}
	switch p := public.(type) {
	case *rsa.PublicKey:
		if err := checkRSA(p); err != nil {
			return nil, err
		}
	case *ecdsa.PublicKey:
		if p.Curve != a.curve {
			return nil, fmt.Errorf("%s key, want one on %s for %s", kind, a.curve.Params().Name, name)
		}
	case ed25519.PublicKey:
		if len(p) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("Ed25519 key of %d bytes, want %d", len(p), ed25519.PublicKeySize)
		}
	}
	return &joseKey{algorithm: name, public: public}, nil
}

// newPrivate is a key that signs as well.
func newPrivate(name string, private any) (*joseKey, error) {
	signer, ok := private.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("key of type %T, want RSA, EC or Ed25519", private)
	}
	k, err := newPublic(name, signer.Public())
	if err != nil {
		return nil, err
	}
	k.private = private
	return k, nil
}

// minSecret is the length of SHA-256 in bytes: RFC 7518, section 3.2.
const minSecret = 32

// newSecret is a key for HS256. An empty one would verify whatever a forger
// signs with nothing.
func newSecret(secret []byte) (*joseKey, error) {
	if len(secret) < minSecret {
		return nil, fmt.Errorf("secret of %d bytes, want at least %d", len(secret), minSecret)
	}
	return &joseKey{algorithm: "HS256", public: secret, private: secret}, nil
}

func checkRSA(p *rsa.PublicKey) error {
	switch bits := p.N.BitLen(); {
	case bits < 2048:
		return fmt.Errorf("RSA key of %d bits, want at least 2048", bits)
	case bits > 8192:
		return fmt.Errorf("RSA key of %d bits, want at most 8192", bits)
	case p.N.Bit(0) == 0:
		return errors.New("RSA key with an even modulus")
	case p.E < 3 || p.E&1 == 0:
		// 3 is enough: PKCS #1 v1.5 padding is compared whole, which is what
		// small exponents were attacked by the lack of.
		return fmt.Errorf("RSA key with public exponent %d, want an odd one from 3 on", p.E)
	case isROCA(p):
		return errors.New("RSA key with the ROCA weakness (CVE-2017-15361), make another")
	}
	return nil
}

func set(names ...string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[n] = true
	}
	return m
}
