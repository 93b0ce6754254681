package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// What all contenders are told of the tokens.
const (
	issuer   = "https://issuer.loadtest.example"
	audience = "gatehouse"
	role     = "user"
)

// keys sign the tokens that the contenders verify.
type keys struct {
	secret string // of HS256
	rsa    *rsa.PrivateKey
	ecdsa  *ecdsa.PrivateKey
	dir    string // of the key files
}

func newKeys(dir string) (*keys, error) {
	random := make([]byte, 32)
	rand.Read(random)
	k := &keys{secret: hex.EncodeToString(random), dir: dir}
	var err error
	if k.rsa, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return nil, err
	}
	if k.ecdsa, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	point, err := k.ecdsa.PublicKey.Bytes() // 4, and the coordinates
	if err != nil {
		return nil, err
	}
	jwks := fmt.Sprintf(`{"keys":[{"kty":"EC","crv":"P-256","kid":"ES256","alg":"ES256","use":"sig","x":%q,"y":%q}]}`,
		base64.RawURLEncoding.EncodeToString(point[1:33]), base64.RawURLEncoding.EncodeToString(point[33:]))
	if err := os.WriteFile(k.jwksFile(), []byte(jwks), 0o600); err != nil {
		return nil, err
	}
	return k, errors.Join(k.write("RS256", k.rsa), k.write("ES256", k.ecdsa))
}

// jwksFile has the public key of ES256.
func (k *keys) jwksFile() string { return filepath.Join(k.dir, "jwks.json") }

// The key of an algorithm: the public one for those who take that, the private
// one for Gatehouse, whose first key has to sign.
func (k *keys) publicFile(algorithm string) string  { return filepath.Join(k.dir, algorithm+".pem") }
func (k *keys) privateFile(algorithm string) string { return filepath.Join(k.dir, algorithm+".key") }

func (k *keys) write(algorithm string, key crypto.Signer) error {
	public, err1 := x509.MarshalPKIXPublicKey(key.Public())
	private, err2 := x509.MarshalPKCS8PrivateKey(key)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(k.publicFile(algorithm), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o600),
		os.WriteFile(k.privateFile(algorithm), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
}

// token is one of a user, good for a day. Forged it says the same, with
// somebody else's signature.
func (k *keys) token(algorithm string, forged bool) (string, error) {
	now := time.Now().Unix()
	header := map[string]any{"alg": algorithm, "typ": "at+jwt", "kid": algorithm}
	claims := map[string]any{
		"iss": issuer, "aud": audience, "sub": "01JNQ8ZK3V7M2P5X4Z6W8Y1A2B", "exp": now + 86400, "iat": now, "nbf": now,
		"jti": "5hQ0m8yq1oJ2uJc9v7bZ4A", "email": "ann@example.com", "name": "Ann Example", "roles": []string{role, "editor"},
		"sid": "01JNQ8ZMB4C6D8E0F2G4H6J8K0", "gen": 1,
	}
	h, err1 := json.Marshal(header)
	c, err2 := json.Marshal(claims)
	if err := errors.Join(err1, err2); err != nil {
		return "", err
	}
	signed := base64.RawURLEncoding.EncodeToString(h) + "." + base64.RawURLEncoding.EncodeToString(c)
	text := signed
	if forged {
		text = "x" + signed
	}
	signature, err := k.sign(algorithm, []byte(text))
	if err != nil {
		return "", err
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// sign makes a signature of RFC 7518.
func (k *keys) sign(algorithm string, text []byte) ([]byte, error) {
	hash := sha256.Sum256(text)
	switch algorithm {
	case "HS256":
		mac := hmac.New(sha256.New, []byte(k.secret))
		mac.Write(text)
		return mac.Sum(nil), nil
	case "RS256":
		return rsa.SignPKCS1v15(rand.Reader, k.rsa, crypto.SHA256, hash[:])
	case "ES256":
		r, s, err := ecdsa.Sign(rand.Reader, k.ecdsa, hash[:])
		if err != nil {
			return nil, err
		}
		signature := make([]byte, 64)
		r.FillBytes(signature[:32])
		s.FillBytes(signature[32:])
		return signature, nil
	}
	return nil, errors.New("algorithm " + algorithm + ": want HS256, RS256 or ES256")
}
