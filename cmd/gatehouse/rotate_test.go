package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatehouse/authn"
)

// Two gateways on one data directory while its key is rotated: from before the
// new key is there until both sign with it, neither refuses a token of the
// other, nor the old ones.
func TestRotationOfLiveReplicas(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	yaml := fmt.Sprintf("data_dir: %s\npublic_url: http://gw.example\nusers: {bcrypt_cost: 4, password: {min_strength: 0}}\n"+
		"endpoints: {at_root: [login, register, userinfo]}\nlog: {access: false}\nroutes: [{path: /, upstream: \"echo:\"}]\n", data)
	one := serveHere(t, yaml)
	two := serveHere(t, yaml)
	const body = `{"email":"ann@example.com","password":"password123"}`
	post := func(gw *servedGateway, path string, want int) (answer struct {
		AccessToken string `json:"access_token"`
	}) {
		t.Helper()
		res, err := http.Post(gw.url+path, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode != want {
			t.Fatalf("POST %s: %s, want %d", path, res.Status, want)
		}
		if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
			t.Fatal(err)
		}
		return answer
	}
	accepts := func(gw *servedGateway, what, token string) {
		t.Helper()
		req, err := http.NewRequest("GET", gw.url+"/userinfo", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, want 200", what, res.Status)
		}
	}
	keyOf := func(token string) string {
		t.Helper()
		header, _, err := authn.Inspect(token)
		if err != nil {
			t.Fatal(err)
		}
		return header["kid"].(string)
	}

	post(one, "/register", http.StatusCreated)
	old := post(one, "/login", http.StatusOK).AccessToken
	began := time.Now()
	made, err := authn.GenerateKey(filepath.Join(data, "keys"), "ES256")
	if err != nil {
		t.Fatal(err)
	}
	rounds := 0
	await(t, 30*time.Second, "both gateways to sign with the new key", func() bool {
		rounds++
		ofOne, ofTwo := post(one, "/login", http.StatusOK).AccessToken, post(two, "/login", http.StatusOK).AccessToken
		accepts(two, "a token of the first gateway at the second", ofOne)
		accepts(one, "a token of the second gateway at the first", ofTwo)
		accepts(one, "an old token", old)
		accepts(two, "an old token", old)
		return keyOf(ofOne) == made.ID && keyOf(ofTwo) == made.ID
	})
	if keyOf(old) == made.ID {
		t.Error("the old token is of the new key")
	}
	t.Logf("both sign with it after %v, %d rounds", time.Since(began).Round(time.Millisecond), rounds)
	for _, gw := range []*servedGateway{one, two} {
		keys, err := get(gw.url + "/.gatehouse/jwks.json")
		if err != nil || strings.Count(keys, `"kid"`) != 2 || !strings.Contains(keys, made.ID) {
			t.Errorf("JWKS %s, %v, want both keys", keys, err)
		}
	}
	if files, err := os.ReadDir(filepath.Join(data, "keys")); err != nil || len(files) != 3 { // two keys and the lock
		t.Errorf("key folder %v, %v", files, err)
	}
}
