package authn

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
)

// JWK sets (RFC 7517) are read here and not with MicahParks/jwkset: that one
// lets the later of two equal or oddly cased members win, takes padded and
// short coordinates, wraps an RSA exponent that is larger than an int, and
// refuses a whole set for one key of a kind it does not know.

// maxKeys bounds a set; the largest that public issuers show have a few dozen.
const maxKeys = 512

// A jwk is one usable key of a trusted issuer.
type jwk struct {
	kid        string
	hasKID     bool
	algorithms []string // what it may verify: its own alg, or all that suit the key
	public     any
}

func (k *jwk) fits(algorithm string) bool { return slices.Contains(k.algorithms, algorithm) }

// A jwkSet is what an issuer published. It never changes.
type jwkSet struct {
	keys    []jwk
	skipped []string          // why the other keys of the set cannot be used
	sum     [sha256.Size]byte // of the document
}

var errUnknownKey = errors.New("no key of the issuer fits")

// find returns the one key that h names and that may verify its algorithm.
// Without kid it is the one key that fits. errUnknownKey means that a newer
// set may have it.
func (s *jwkSet) find(h joseHeader) (*joseKey, error) {
	var found *jwk
	known := false
	for i := range s.keys {
		k := &s.keys[i]
		if h.hasKID && (!k.hasKID || k.kid != h.kid) {
			continue
		}
		known = known || h.hasKID
		if !k.fits(h.algorithm) {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("several keys of the issuer fit kid %.64q and %s", h.kid, h.algorithm)
		}
		found = k
	}
	if found != nil {
		return &joseKey{algorithm: h.algorithm, public: found.public}, nil
	}
	if known {
		return nil, fmt.Errorf("key %.64q of the issuer is not for %.16q", h.kid, h.algorithm)
	}
	return nil, fmt.Errorf("%w: kid %.64q, alg %.16q", errUnknownKey, h.kid, h.algorithm)
}

// parseJWKS reads a JWK set. A key that cannot be used is skipped with the
// reason; the set itself must be sound.
func parseJWKS(data []byte) (*jwkSet, error) {
	object, err := readObject(data)
	if err != nil {
		return nil, fmt.Errorf("JWK set: %w", err)
	}
	keys, ok := object["keys"].([]any)
	if !ok {
		return nil, errors.New(`JWK set: want a list "keys"`)
	}
	if len(keys) > maxKeys {
		return nil, fmt.Errorf("JWK set: %d keys, want at most %d", len(keys), maxKeys)
	}
	set := &jwkSet{sum: sha256.Sum256(data)}
	for i, k := range keys {
		member, ok := k.(map[string]any)
		if !ok {
			set.skipped = append(set.skipped, fmt.Sprintf("keys[%d]: not an object", i))
			continue
		}
		key, err := parseJWK(member)
		if err != nil {
			at := fmt.Sprintf("keys[%d]", i)
			if kid, ok := member["kid"].(string); ok {
				at += fmt.Sprintf(" (kid %.64q)", kid)
			}
			set.skipped = append(set.skipped, fmt.Sprintf("%s: %v", at, err))
			continue
		}
		set.keys = append(set.keys, key)
	}
	return set, nil
}

// parseUsableJWKS is parseJWKS that wants at least one key.
func parseUsableJWKS(data []byte) (*jwkSet, error) {
	set, err := parseJWKS(data)
	switch {
	case err != nil:
		return nil, err
	case len(set.keys) > 0:
		return set, nil
	case len(set.skipped) == 0:
		return nil, errors.New("no key in the JWK set")
	}
	return nil, fmt.Errorf("no usable key: %s", strings.Join(set.skipped, "; "))
}

func parseJWK(m map[string]any) (jwk, error) {
	if err := checkNames(m, jwkNames); err != nil {
		return jwk{}, err
	}
	text := map[string]string{}
	for _, name := range []string{"kty", "kid", "alg", "use", "crv"} {
		v, there := m[name]
		if !there {
			continue
		}
		s, ok := v.(string)
		if !ok || s == "" || hasControl(s) {
			return jwk{}, fmt.Errorf("%q is not a name", name)
		}
		text[name] = s
	}
	if use, there := text["use"]; there && use != "sig" {
		return jwk{}, fmt.Errorf("use %.16q, want sig", use)
	}
	if v, there := m["key_ops"]; there {
		if ops, ok := v.([]any); !ok || !slices.Contains(ops, any("verify")) {
			return jwk{}, errors.New("key_ops without verify")
		}
	}
	for _, name := range []string{"d", "p", "q"} {
		if _, there := m[name]; there && text["kty"] != "oct" {
			// Whoever reads the set can sign with it.
			return jwk{}, errors.New("published with its private part")
		}
	}
	public, err := parsePublic(text["kty"], text["crv"], m)
	if err != nil {
		return jwk{}, err
	}
	k := jwk{kid: text["kid"], public: public}
	_, k.hasKID = text["kid"]
	names := issuerAlgorithms()
	if own, there := text["alg"]; there {
		names = []string{own}
	}
	for _, name := range names {
		if _, e := newPublic(name, public); e != nil {
			err = e
			continue
		}
		k.algorithms = append(k.algorithms, name)
	}
	if len(k.algorithms) == 0 {
		return jwk{}, err
	}
	return k, nil
}

var jwkNames = set("kty", "kid", "alg", "use", "key_ops", "crv", "x", "y", "d", "n", "e", "k")

var curves = map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}

func parsePublic(kty, crv string, m map[string]any) (any, error) {
	member := func(name string) ([]byte, error) {
		s, _ := m[name].(string)
		raw, err := decodeStrict(s)
		if err != nil || len(raw) == 0 {
			return nil, fmt.Errorf("%q is not base64url", name)
		}
		return raw, nil
	}
	switch kty {
	case "RSA":
		n, err := member("n")
		if err != nil {
			return nil, err
		}
		e, err := member("e")
		if err != nil {
			return nil, err
		}
		exponent := new(big.Int).SetBytes(e)
		if exponent.BitLen() > 31 {
			return nil, errors.New("RSA key with a public exponent of more than 31 bits")
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent.Int64())}, nil
	case "EC":
		curve, ok := curves[crv]
		if !ok {
			return nil, fmt.Errorf("curve %.16q, want P-256, P-384 or P-521", crv)
		}
		point := []byte{4} // uncompressed, SEC 1 section 2.3.3
		for _, name := range []string{"x", "y"} {
			raw, err := member(name)
			if err != nil {
				return nil, err
			}
			if want := (curve.Params().BitSize + 7) / 8; len(raw) != want {
				return nil, fmt.Errorf("%q of %d bytes, want %d", name, len(raw), want)
			}
			point = append(point, raw...)
		}
		key, err := ecdsa.ParseUncompressedPublicKey(curve, point)
		if err != nil {
			return nil, fmt.Errorf("point is not on %s", crv)
		}
		return key, nil
	case "OKP":
		if crv != "Ed25519" {
			return nil, fmt.Errorf("curve %.16q, want Ed25519", crv)
		}
		x, err := member("x")
		if err != nil {
			return nil, err
		}
		return ed25519.PublicKey(x), nil
	case "oct":
		return nil, errors.New("a shared secret is not for a published set")
	}
	return nil, fmt.Errorf("kty %.16q, want RSA, EC or OKP", kty)
}

// decodeStrict reads base64url in its one form. The decoder skips line ends.
func decodeStrict(s string) ([]byte, error) {
	for i := range len(s) {
		if s[i] == '\r' || s[i] == '\n' {
			return nil, errors.New("line end in base64url")
		}
	}
	return base64url.DecodeString(s)
}

// A publicJWK is a key as JWKS shows it, members in a fixed order.
type publicJWK struct {
	KeyType   string `json:"kty"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
	ID        string `json:"kid"`
	Curve     string `json:"crv,omitempty"`
	X         string `json:"x,omitempty"`
	Y         string `json:"y,omitempty"`
	N         string `json:"n,omitempty"`
	E         string `json:"e,omitempty"`
}

// marshalJWKS leaves secrets out.
func marshalJWKS(keys []*key) ([]byte, error) {
	shown := []publicJWK{}
	for _, k := range keys {
		j := publicJWK{KeyType: algorithms[k.algorithm].family, Use: "sig", Algorithm: k.algorithm, ID: k.id}
		switch p := k.public.(type) {
		case *rsa.PublicKey:
			j.N = base64url.EncodeToString(p.N.Bytes())
			j.E = base64url.EncodeToString(big.NewInt(int64(p.E)).Bytes())
		case *ecdsa.PublicKey:
			point, err := p.Bytes()
			if err != nil {
				return nil, fmt.Errorf("key %q: %w", k.id, err)
			}
			half := len(point) / 2
			j.Curve = p.Curve.Params().Name
			j.X = base64url.EncodeToString(point[1 : 1+half])
			j.Y = base64url.EncodeToString(point[1+half:])
		case ed25519.PublicKey:
			j.Curve = "Ed25519"
			j.X = base64url.EncodeToString(p)
		default:
			continue
		}
		shown = append(shown, j)
	}
	return json.Marshal(map[string]any{"keys": shown})
}

// rocaPrimes are the odd primes whose products the weak generator of
// CVE-2017-15361 built its primes from.
var rocaPrimes = []int64{
	3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97,
	101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
}

// isROCA tells whether the modulus is a power of 65537 modulo every one of the
// primes, which by chance no modulus is (Nemec and others, 2017). Such a key
// is factored from its public part.
func isROCA(p *rsa.PublicKey) bool {
	residue := new(big.Int)
	for _, prime := range rocaPrimes {
		want := residue.Mod(p.N, big.NewInt(prime)).Int64()
		power := int64(1)
		for power != want {
			power = power * 65537 % prime
			if power == 1 {
				return false
			}
		}
	}
	return true
}
