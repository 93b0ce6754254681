package authn

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzKeyFile: whatever a key file holds, the error shows none of it, and a key
// that is taken signs what its public half verifies.
func FuzzKeyFile(f *testing.F) {
	for _, algorithm := range []string{"ES256", "EdDSA"} {
		content, _, err := generateContent(algorithm)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
		f.Add(append(content, content...))
	}
	f.Add([]byte(goodSecret + "\r\n"))
	f.Add([]byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END PRIVATE KEY-----\n"))
	f.Add([]byte("-----BEGIN RSA PRIVATE KEY-----\nMAMCAQA=\n-----END RSA PRIVATE KEY-----\n"))
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAAAAA\n-----END PUBLIC KEY-----\n"))
	path := filepath.Join(f.TempDir(), "key")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, algorithm := range []string{"HS256", "ES256", "EdDSA", "RS256"} {
			k, err := keyFile{path: path, id: "key", algorithm: algorithm}.read()
			if err != nil {
				showsNothing(t, err, data)
				continue
			}
			token, err := k.sign([]byte("{}"), []byte("{}"))
			if err != nil {
				t.Fatalf("%s key does not sign: %v", algorithm, err)
			}
			j, err := splitJWS(token)
			if err != nil || k.verify(j) != nil {
				t.Fatalf("%s key does not verify what it signed: %v", algorithm, err)
			}
			if algorithm != "HS256" {
				public, err := newPublic(algorithm, k.public)
				if err != nil || public.verify(j) != nil {
					t.Fatalf("the public half of %s is another key: %v", algorithm, err)
				}
			}
		}
		if _, err := parsePublicPEM(data); err != nil {
			showsNothing(t, err, data)
		}
	})
}

// showsNothing: an error is short, and has no line of what is between the lines
// of a PEM file, nor of a secret.
func showsNothing(t *testing.T, err error, data []byte) {
	t.Helper()
	text := err.Error()
	if len(text) > 400 {
		t.Fatalf("error of %d bytes: %.100q...", len(text), text)
	}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if body := base64.StdEncoding.EncodeToString(block.Bytes); len(body) >= 16 && strings.Contains(text, body[:16]) {
			t.Fatalf("%q shows the key", text)
		}
	}
	if secret := bytes.TrimSpace(data); len(secret) >= 16 && !bytes.HasPrefix(secret, []byte("-----")) && strings.Contains(text, string(secret[:16])) {
		t.Fatalf("%q shows the secret", text)
	}
}

// FuzzRefreshToken: what is read as a token is written as it was read, so that
// no two texts are the same token, and what was sealed for a successor opens
// with the token alone.
func FuzzRefreshToken(f *testing.F) {
	good := newRefreshToken("5f1c0e4e-0000-7000-8000-000000000000")
	f.Add(good.String(), good.seal(good.next()))
	f.Add("gr_s."+strings.Repeat("A", 64), strings.Repeat("0", 64))
	f.Add("gr_."+strings.Repeat("A", 64), "")
	f.Add("gr_s."+strings.Repeat("A", 32)+"\r\n"+strings.Repeat("A", 30), "zz")
	f.Fuzz(func(t *testing.T, text, sealed string) {
		r, err := parseRefreshToken(text)
		if err != nil {
			if r != (refreshToken{}) {
				t.Fatalf("parseRefreshToken(%q) = %+v beside %v", text, r, err)
			}
			return
		}
		if r.String() != text {
			t.Fatalf("%q is read as %q", text, r)
		}
		successor := r.next()
		if opened, err := r.open(r.seal(successor)); err != nil || opened != successor {
			t.Fatalf("open(seal(%q)) = %q, %v", successor, opened, err)
		}
		if other, err := successor.open(r.seal(successor)); err == nil && other == successor {
			t.Fatalf("%q opens what was sealed with its predecessor", successor)
		}
		if opened, err := r.open(sealed); err == nil && !strings.EqualFold(r.seal(opened), sealed) {
			t.Fatalf("open(%q) = %q, which is sealed as %q", sealed, opened, r.seal(opened))
		}
	})
}
