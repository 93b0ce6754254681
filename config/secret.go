package config

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

const minSecretBytes = 32

// Weakness says why a secret must not sign tokens, "" if nothing speaks
// against it. It shows nothing of the secret.
func (s Secret) Weakness() string {
	text := string(s)
	switch {
	case text == "":
		return "the secret is empty"
	case isSample(text):
		return "the secret is a well-known sample"
	case isPublicKey(text):
		return "the secret is a key in PEM or JWK form, which others may have"
	case len(text) < minSecretBytes:
		return fmt.Sprintf("the secret has %d bytes: want at least %d (RFC 7518, section 3.2)", len(text), minSecretBytes)
	case repeats(strings.ToLower(text)):
		return "the secret repeats itself"
	case distinctBytes(text) < 8:
		return "the secret has too few different characters"
	}
	return ""
}

// isPublicKey finds the classic: whoever has the public key can sign with its
// text (RFC 8725, section 2.1).
func isPublicKey(s string) bool {
	var jwk map[string]json.RawMessage
	return strings.Contains(s, "-----BEGIN ") || json.Unmarshal([]byte(s), &jwk) == nil && (jwk["kty"] != nil || jwk["keys"] != nil)
}

// isSample compares letters and digits only: samples are copied with other
// punctuation, and made longer by saying them again.
func isSample(s string) bool {
	s = onlyLetters(s)
	if s == "" {
		return false
	}
	return slices.ContainsFunc(samples, func(sample string) bool {
		sample = onlyLetters(sample)
		return len(s) >= len(sample) && strings.HasPrefix(strings.Repeat(sample, len(s)/len(sample)+1), s)
	})
}

func onlyLetters(s string) string {
	return strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' {
			return r
		}
		return -1
	}, strings.ToLower(s))
}

func repeats(s string) bool {
	p := period(s)
	return p < minSecretBytes && p <= len(s)/2
}

// period is the length of the shortest text that, repeated, makes s; the last
// repetition may be cut short (Knuth, Morris, Pratt).
func period(s string) int {
	fail := make([]int, len(s)+1)
	for i, k := 1, 0; i < len(s); i++ {
		for k > 0 && s[i] != s[k] {
			k = fail[k]
		}
		if s[i] == s[k] {
			k++
		}
		fail[i+1] = k
	}
	return len(s) - fail[len(s)]
}

func distinctBytes(s string) int {
	var seen [256]bool
	n := 0
	for _, b := range []byte(s) {
		if !seen[b] {
			seen[b] = true
			n++
		}
	}
	return n
}

// samples are secrets that tutorials, templates and the playgrounds of
// libraries use. Whoever looks for forgeable tokens tries them first.
var samples = []string{
	"secret", "mysecret", "my-secret", "supersecret", "super-secret", "topsecret", "verysecret", "secretkey",
	"secret-key", "mysecretkey", "supersecretkey", "jwtsecret", "jwt_secret_key", "myjwtsecret", "jwt-key", "your-jwt-secret",
	"changeme", "change-me", "changeit", "change-this-secret", "change-me-in-production", "please-change-me",
	"password", "password123", "admin", "default", "test", "example", "key", "token", "gatehouse",
	"your-secret", "your-secret-key", "your_secret_key_here", "your-super-secret-key", "your_jwt_secret_key_here",
	"your-256-bit-secret", "your-384-bit-secret", "your-512-bit-secret", "your-256-bit-secret-here",
	"a-string-secret-at-least-256-bits-long", "a-valid-string-secret-that-is-at-least-512-bits-long-which-is-very-long",
	"this-is-a-secret", "this-is-a-very-secret-key", "this_is_a_very_long_secret_key_for_jwt",
	"my-very-long-and-secure-secret-key-for-jwt", "mysupersecretkeythatisatleast32byteslong",
	"your-super-secret-jwt-token-with-at-least-32-characters-long", "super-secret-jwt-token-with-at-least-32-characters-long",
	"your-very-long-secret-key-that-is-at-least-32-characters", "your_super_secret_key_change_this_in_production",
	"my-32-character-ultra-secure-and-ultra-long-secret",
	"your-very-secure-and-long-secret-key", "change-this-to-a-long-random-string", "replace-this-with-a-long-random-secret",
	"404E635266556A586E3272357538782F413F4428472B4B6250645367566B5970",
	"09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
	"qwertyuiopasdfghjklzxcvbnm123456", "abcdefghijklmnopqrstuvwxyz123456", "abcdefghijklmnopqrstuvwxyz",
	"abcdefghijklmnopqrstuvwxyz0123456789", "12345678901234567890123456789012", "0123456789abcdef",
	"01234567890123456789012345678901", "1234567890", "123456", "12345678", "0123456789",
}
