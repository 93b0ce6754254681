package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"gatehouse/config"
)

// enrol makes an account and signs in, on gw.
func (b *hostileBed) enrol(t *testing.T, gw *servedGateway, email string) (access, refresh string) {
	t.Helper()
	body, err := json.Marshal(map[string]string{"email": email, "password": goodPassword})
	if err != nil {
		t.Fatal(err)
	}
	if rep := b.say(t, gw, post1("/register", string(body), "Content-Type: application/json")+marker); rep.statuses[0] != 201 {
		t.Fatalf("register %s: %d %s", email, rep.statuses, rep.raw)
	}
	rep := b.say(t, gw, post1("/login", string(body), "Content-Type: application/json")+marker)
	grant := jsonOf(t, rep.body)
	if grant.AccessToken == "" || grant.RefreshToken == "" {
		t.Fatalf("login %s: %s", email, rep.raw)
	}
	b.app.take(t)
	return grant.AccessToken, grant.RefreshToken
}

// otherKinds: a refresh token, an assertion, a known-browser cookie where an
// access token is wanted, and the other way round.
func otherKinds(t *testing.T, b *hostileBed) string {
	access, refresh := b.enrol(t, b.plain, "kinds@example.com")
	rep := b.say(t, b.plain, get1("/api/me", "Authorization: Bearer "+access)+marker)
	arrived := b.app.take(t)
	if rep.statuses[0] != 200 || len(arrived) != 2 {
		t.Fatalf("%d", rep.statuses)
	}
	assertion := arrived[0].get("X-Gatehouse-Assertion")[0]
	for _, token := range []string{refresh, assertion} {
		for _, line := range []string{"Authorization: Bearer " + token, "Cookie: __Host-gatehouse=" + token, "Cookie: __Host-gatehouse-known=" + access, "Cookie: __Host-gatehouse-refresh=" + access} {
			if rep := b.say(t, b.plain, get1("/api/me", line)+marker); rep.statuses[0] != 401 {
				t.Errorf("%s: %d", line, rep.statuses)
			}
		}
	}
	for _, token := range []string{access, assertion} {
		if rep := b.say(t, b.plain, post1("/.gatehouse/refresh", fmt.Sprintf(`{"refresh_token":%q}`, token), "Content-Type: application/json")+marker); rep.statuses[0] != 401 {
			t.Errorf("refresh with another kind: %d", rep.statuses)
		}
	}
	b.app.take(t)
	return "refused with 401 (10 times)"
}

// oddHandles are taken as what they are: the revocation of one is that of one.
func oddHandles(t *testing.T, b *hostileBed) string {
	k := b.keys
	for i, jti := range []string{"j:1", "a.b-c_d", "~"} {
		token := k.es256(esHeader, k.claims("alice", "jti", fmt.Sprintf("%q", jti)))
		twin := k.es256(esHeader, k.claims("alice", "jti", fmt.Sprintf("%q", jti)))
		other := k.es256(esHeader, k.claims("alice", "jti", fmt.Sprintf("%q", jti+"2")))
		var got []int
		ask := func(raw string) { got = append(got, b.say(t, b.plain, raw+marker).statuses[0]) }
		ask(get1("/api/me", "Authorization: Bearer "+token))
		ask(post1("/logout", "", "Authorization: Bearer "+token))
		ask(get1("/api/me", "Authorization: Bearer "+token))
		ask(get1("/api/me", "Authorization: Bearer "+twin))
		ask(get1("/api/me", "Authorization: Bearer "+other))
		if fmt.Sprint(got) != "[200 204 401 401 200]" {
			t.Errorf("%d %q: %d", i, jti, got)
		}
	}
	b.app.take(t)
	return "arrives clean; revoking one revokes whatever has its jti, and nothing else (3 times)"
}

// weakSecrets do not load.
func weakSecrets(t *testing.T, _ *hostileBed) string {
	unset := func(string) (string, bool) { return "", false }
	for _, secret := range []string{`""`, "short", "${JWT_SECRET}", `"${JWT_SECRET:-}"`, "your-256-bit-secret", "changeme-changeme-changeme-changeme", "secretsecretsecretsecretsecretsecret", strings.Repeat("a", 40), "abcdefghijklmnopqrstuvwxyz0123456789", `"               x                        "`} {
		yaml := "tokens: {keys: [{id: a, algorithm: HS256, secret: " + secret + "}]}\nroutes: [{path: /, upstream: \"echo:\"}]\n"
		if _, err := config.Parse("gateway.yaml", []byte(yaml), unset); err == nil {
			t.Errorf("secret %s is taken", secret)
		} else if len(secret) > 8 && !strings.HasPrefix(secret, "$") && strings.Contains(err.Error(), strings.Trim(secret, `"`)) {
			t.Errorf("the error shows the secret: %v", err)
		}
	}
	return "refused, the gateway does not start (10 times)"
}
