package authn

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"gatehouse/config"
)

type wycheproofGroup struct {
	Comment         string
	Public, Private json.RawMessage
	Tests           []struct {
		ID       int `json:"tcId"`
		Comment  string
		JWS, JWE json.RawMessage
		Result   string
	}
}

// wycheproof reads one file of the vectors of C2SP/wycheproof. They are not
// part of the repository.
func wycheproof(t *testing.T, name string) []wycheproofGroup {
	t.Helper()
	dir := os.Getenv("GATEHOUSE_VECTORS")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "vectors", "wycheproof")
	}
	data, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, os.ErrNotExist) {
		t.Skipf("SKIPPED: no Wycheproof vectors in %s; set GATEHOUSE_VECTORS to the folder that has %s", dir, name)
	}
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ TestGroups []wycheproofGroup }
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	return file.TestGroups
}

// compact is the vector as a client would send it; JSON serialisations stay
// what they are.
func compact(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return string(raw)
	}
	return s
}

// Case 140: as bearer tokens all vectors are refused, whatever they are.
func TestWycheproofAsTokens(t *testing.T) {
	b := newTokenBed(t, "ES256")
	path := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(path, b.Keys.JWKS(time.Now()), 0o600); err != nil {
		t.Fatal(err)
	}
	trusted, err := NewTrustedIssuers(&config.Config{TrustedIssuers: []config.TrustedIssuer{{Issuer: "https://idp.example", JWKSFile: path, Audiences: []string{"a"}}}}, b.Now)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for _, name := range []string{"json_web_signature_test.json", "json_web_key_test.json", "json_web_crypto_test.json", "json_web_encryption_test.json"} {
		for _, g := range wycheproof(t, name) {
			for _, v := range g.Tests {
				token := compact(slices.Concat(v.JWS, v.JWE))
				for _, verifier := range []Verifier{b, trusted, Join([]Verifier{b, trusted})} {
					id, err := verifier.Verify(context.Background(), token)
					if id != nil || !errors.Is(err, ErrInvalidToken) && !errors.Is(err, ErrNotMine) {
						t.Errorf("%s %d (%s): Verify = %v, %v, want ErrInvalidToken", name, v.ID, v.Comment, id, err)
						continue
					}
				}
				refused++
			}
		}
	}
	if refused != 649 {
		t.Errorf("%d vectors, want 649", refused)
	}
	t.Logf("%d vectors refused", refused)
}

// verifyVector is the signature step, with the keys of the vector's group.
// Public sets go the way of a trusted issuer's; secrets, which that way leaves
// out, go the way of our own keys.
func verifyVector(token string, public, private json.RawMessage) error {
	raw := public
	if raw == nil {
		raw = private
	}
	object, err := readObject(raw)
	if err != nil {
		return err
	}
	if _, isSet := object["keys"]; !isSet {
		object = map[string]any{"keys": []any{object}}
	}
	if raw, err = json.Marshal(object); err != nil {
		return err
	}
	j, err := splitJWS(token)
	if err != nil {
		return err
	}
	h, err := readHeader(j.header)
	if err != nil {
		return err
	}
	members := object["keys"].([]any)
	secrets := 0
	for _, m := range members {
		if m.(map[string]any)["kty"] == "oct" {
			secrets++
		}
	}
	if secrets < len(members) {
		set, err := parseJWKS(raw)
		if err != nil {
			return err
		}
		if len(set.keys) == 0 {
			return errors.New(set.skipped[0])
		}
		return verifyWith(set, j, h)
	}
	keys := &KeySet{byID: map[string]*key{}}
	for _, m := range members {
		m := m.(map[string]any)
		text := func(name string) string { s, _ := m[name].(string); return s }
		if text("alg") != "HS256" {
			return errors.New("not for HS256")
		}
		secret, err := decodeStrict(text("k"))
		if err != nil {
			return err
		}
		k, err := newSecret(secret)
		if err != nil {
			return err
		}
		if keys.byID[text("kid")] != nil {
			return errors.New("kid used twice")
		}
		keys.add(&key{joseKey: k, id: text("kid")})
	}
	k, err := keys.find(h, time.Now())
	if err != nil {
		return err
	}
	return k.verify(j)
}

// Vectors whose result we do not share, and why. Everything else must come out
// as the file says: the salt lengths of PS256, and both ROCA keys, which
// isROCA knows, among them.
var wycheproofElse = map[string]map[int]string{
	"json_web_signature_test.json": {
		346: "the key says PS256, the token PS384", 350: "the key says PS256, the token PS384",
		347: "the key says ES521, which is no algorithm", 351: "the key says ES521, which is no algorithm",
		367: "the same bytes as 357, which is valid: its padding was lost in the file",
		370: "the same bytes as 357, which is valid: its padding was lost in the file",
		372: "a character that is not of base64url", 373: "a character that is not of base64url",
	},
	"json_web_key_test.json": {
		14: "HS384 is not allowed", 15: "HS512 is not allowed",
	},
}

func TestWycheproofSignatures(t *testing.T) {
	invalid, valid := 0, 0
	for _, name := range []string{"json_web_signature_test.json", "json_web_key_test.json", "json_web_crypto_test.json"} {
		for _, g := range wycheproof(t, name) {
			for _, v := range g.Tests {
				if v.JWS == nil {
					continue
				}
				err := verifyVector(compact(v.JWS), g.Public, g.Private)
				want := v.Result == "valid"
				if want {
					valid++
				} else {
					invalid++
				}
				if why := wycheproofElse[name][v.ID]; why != "" {
					t.Logf("%s %d (%s) is %s there, not here: %s (%v)", name, v.ID, v.Comment, v.Result, why, err)
					want = !want
				}
				if (err == nil) != want {
					t.Errorf("%s %d (%s): %v, want %s", name, v.ID, v.Comment, err, v.Result)
				}
			}
		}
	}
	t.Logf("%d invalid and %d valid signatures", invalid, valid)
}
