package main

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// presented shows each token as Bearer, as session cookie and as refresh token,
// and wants it refused. What no header can carry is left out. How it is carried
// makes no difference here.
func presented(tokens ...string) (all []sent) {
	for _, token := range tokens {
		if strings.ContainsAny(token, "\x00\r\n") || len(token) > 60<<10 {
			continue
		}
		body, _ := json.Marshal(map[string]string{"refresh_token": token})
		all = append(all,
			sent{raw: get1("/api/me", "Authorization: Bearer "+token), want: "401", once: true},
			sent{raw: get1("/api/me", "Cookie: a=b; __Host-gatehouse="+token), want: "401", once: true},
			sent{raw: post1("/.gatehouse/refresh", string(body), "Content-Type: application/json"), want: "401", once: true})
	}
	return all
}

// saysNoMore: the answer tells only that the token is bad, unless its
// signature is good.
func saysNoMore(t *testing.T, _ *hostileBed, h heard) {
	if len(h.statuses) == 0 || h.statuses[0] != 401 {
		return
	}
	if !strings.HasPrefix(h.last.Header.Get("WWW-Authenticate"), "Bearer ") {
		t.Errorf("no WWW-Authenticate: %s", h.raw)
	}
	for _, told := range []string{"signature", "alg", "kid", "expired", "revoked", "u-alice"} {
		if strings.Contains(strings.ToLower(jsonOf(t, h.body).Message+h.last.Header.Get("WWW-Authenticate")), told) {
			t.Errorf("the answer speaks of %q: %s", told, h.raw)
		}
	}
}

func tokenCases(b *hostileBed) []hostile {
	k := b.keys
	good, other := k.token("alice"), k.token("admin")
	header := func(members string) string { return k.es256(members, k.claims("alice")) }
	claims := func(changes ...string) string { return k.es256(esHeader, k.claims("alice", changes...)) }
	raw := func(payload string) string { return k.es256(esHeader, payload) }
	now := time.Now().Unix()

	// Public keys as secrets.
	var confused []string
	for _, key := range []any{&k.es.PublicKey, &k.rs.PublicKey} {
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			panic(err)
		}
		text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
		for _, secret := range [][]byte{text, []byte(strings.TrimSpace(string(text))), append([]byte(" "), text...), der, k.rs.N.Bytes(), k.es.X.Bytes()} {
			for _, kid := range []string{"es", "rs", "hs"} {
				confused = append(confused, signHS(secret, `{"alg":"HS256","kid":"`+kid+`","typ":"at+jwt"}`, k.claims("alice")))
			}
		}
	}
	const rsHeader = `{"alg":"RS256","kid":"rs","typ":"at+jwt"}`
	var families []string
	for _, h := range []string{`{"alg":"HS384","kid":"hs","typ":"at+jwt"}`, `{"alg":"HS512","kid":"hs","typ":"at+jwt"}`, `{"alg":"hs256","kid":"hs","typ":"at+jwt"}`, `{"alg":"none","kid":"hs","typ":"at+jwt"}`, `{"alg":"","kid":"hs","typ":"at+jwt"}`,
		`{"kid":"hs","typ":"at+jwt"}`, `{"alg":"HS256","kid":"es","typ":"at+jwt"}`, `{"alg":"HS256","kid":"rs","typ":"at+jwt"}`} {
		families = append(families, signHS(k.hs, h, k.claims("alice")))
	}
	families = append(families, signRS(k.rs, `{"alg":"PS256","kid":"rs","typ":"at+jwt"}`, k.claims("alice"), true), signRS(k.rs, rsHeader, k.claims("alice"), true), signRS(k.rs, `{"alg":"PS256","kid":"rs","typ":"at+jwt"}`, k.claims("alice"), false),
		signRS(k.rs, `{"alg":"RS512","kid":"rs","typ":"at+jwt"}`, k.claims("alice"), false), header(`{"alg":"ES384","kid":"es","typ":"at+jwt"}`), header(`{"alg":"none","kid":"es","typ":"at+jwt"}`),
		strings.Join(strings.Split(header(`{"alg":"none","kid":"es","typ":"at+jwt"}`), ".")[:2], ".")+".")

	jwk := fmt.Sprintf(`{"kty":"EC","crv":"P-256","x":%q,"y":%q}`, b64(k.stranger.X.FillBytes(make([]byte, 32))), b64(k.stranger.Y.FillBytes(make([]byte, 32))))
	stranger := func(members string) string { return signES256(k.stranger, members, k.claims("alice")) }

	var kids []string
	for _, kid := range []string{`"../../../../dev/null"`, `"/proc/sys/kernel/randomize_va_space"`, `"' UNION SELECT 'k"`, `"|id"`, `"\u0000"`, `["es"]`, `0`, `null`, `"ES"`, `"es "`, `"es\u0000"`, `"hs"`, `"rs"`, `"` + strings.Repeat("k", 5000) + `"`, `{"es":1}`, `""`} {
		kids = append(kids, header(`{"alg":"ES256","kid":`+kid+`,"typ":"at+jwt"}`), signHS(nil, `{"alg":"HS256","kid":`+kid+`,"typ":"at+jwt"}`, k.claims("alice")))
	}
	kids = append(kids, header(`{"alg":"ES256","typ":"at+jwt"}`))

	var crits []string
	for _, member := range []string{`"crit":["exp2"],"exp2":1`, `"crit":[]`, `"crit":["alg"]`, `"crit":"exp"`, `"crit":null`, `"b64":false`, `"b64":false,"crit":["b64"]`, `"b64":true`, `"zip":"DEF"`, `"enc":"A128GCM"`, `"CRIT":["a"]`, `"alg":"ES256"`, `"Alg":"none"`, `"kid":"hs"`, `"KID":"es"`, `"typ":"JWT"`} {
		crits = append(crits, header(`{"alg":"ES256","kid":"es","typ":"at+jwt",`+member+`}`), header(`{`+member+`,"alg":"ES256","kid":"es","typ":"at+jwt"}`))
	}
	var types []string
	for _, typ := range []string{`"JWT"`, `"id_token"`, `"refresh"`, `"JWE"`, `"jwt"`, `""`, `null`, `1`, `"at+jwt "`, `"application/at+jwt;x"`, `"gatehouse-assertion"`, `"assertion+jwt"`} {
		types = append(types, header(`{"alg":"ES256","kid":"es","typ":`+typ+`}`))
	}
	types = append(types, header(`{"alg":"ES256","kid":"es"}`))

	var secrets []string
	for _, secret := range []string{"", "secret", "changeme", "your-256-bit-secret", "password", "gatehouse", "secretsecretsecretsecretsecretsecret", string(k.hs[:31]), string(k.hs) + "\n"} {
		secrets = append(secrets, signHS([]byte(secret), `{"alg":"HS256","kid":"hs","typ":"at+jwt"}`, k.claims("alice")))
	}

	var loose []string
	for part := range 3 {
		loose = append(loose, unusedBits(good, part)...)
	}
	parts := strings.Split(good, ".")
	forms := []string{good + "=", good + "==", parts[0] + "=." + parts[1] + "." + parts[2], strings.ReplaceAll(good, "-", "+") + "+", strings.ReplaceAll(good, "_", "/") + "/", good + ".", "." + good, good + ".a", "..", ".", "a.b", parts[0] + "." + parts[1],
		parts[0] + ".." + parts[2], "." + parts[1] + "." + parts[2], parts[0] + "." + parts[1] + ".", good + "." + parts[1] + "." + parts[2], parts[0] + "." + parts[1] + "." + parts[2] + "." + parts[0] + "." + parts[1],
		fmt.Sprintf(`{"payload":%q,"signatures":[{"protected":%q,"signature":%q}]}`, parts[1], parts[0], parts[2]), fmt.Sprintf(`{"payload":%q,"protected":%q,"signature":%q}`, parts[1], parts[0], parts[2]),
		strings.ToUpper(good), good[:len(good)-1], base64.StdEncoding.EncodeToString([]byte(good)), good + " x", "%20" + good, "\"" + good + "\"x"}

	deep := func(n int) string { return raw(strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n)) }
	var dates []string
	for _, exp := range []string{`"9999999999"`, `1e18`, `9.3e18`, `1e30`, `1e400`, `99999999999999999999`, `-1`, `0`, `null`, `true`, `[9999999999]`, `{"a":1}`, fmt.Sprintf("%d.5e400", now+60), `9007199254740993`, `NaN`, `Infinity`, `+9999999999`, `09999999999`, ``} {
		dates = append(dates, claims("exp", exp))
	}
	doubled := []string{raw(strings.Replace(k.claims("alice"), `"exp":`, `"exp":1,"exp":`, 1)), raw(strings.Replace(k.claims("alice", "exp", "1"), `"exp":1`, fmt.Sprintf(`"exp":1,"EXP":%d`, now+3600), 1)),
		raw(strings.Replace(k.claims("alice"), `"sub":`, `"sub":"u-admin","sub":`, 1)), claims("SUB", `"u-admin"`), claims("\u017fub", `"u-admin"`), claims("Roles", `["admin"]`), claims("GEN", "9"),
		raw(strings.Replace(k.claims("alice"), `"sub":`, `"\u0073ub":"u-admin","sub":`, 1))}

	var audiences []string
	for _, aud := range []string{`"other"`, `["other"]`, `[]`, `""`, `null`, `1`, `["gatehouse",1]`, `"Gatehouse"`, `"gatehouse "`, `{"gatehouse":1}`, ``} {
		audiences = append(audiences, claims("aud", aud))
	}
	var subjects []string
	for _, sub := range []string{``, `""`, `null`, `1`, `["u-alice"]`, `"u-alice\u0000"`, `"u-alice\r\nX: y"`, `"` + strings.Repeat("a", 257) + `"`} {
		subjects = append(subjects, claims("sub", sub))
	}
	var ids []string
	for _, jti := range []string{``, `""`, `null`, `1`, `["a"]`, `"a\r\nb"`, `"a\u0000"`, `"a b"`, `"*"`, `"{gatehouse}"`, `"%"`, `"'; DROP TABLE revocations; --"`, `"\u00e9"`, `"` + strings.Repeat("a", 257) + `"`, `{"a":1}`} {
		ids = append(ids, claims("jti", jti))
	}
	var issuers []string
	for _, iss := range []string{``, `null`, `["https://gw.example"]`, `"https://gw.example/"`, `"https://GW.example"`, `"http://gw.example"`, `"https://gw.example.evil"`, `"https://gw\u2024example"`, `"gw.example"`, `""`, `" https://gw.example"`} {
		issuers = append(issuers, claims("iss", iss))
	}
	future := fmt.Sprint(now + 3000)
	var starts []string
	for _, v := range []string{future, `"0"`, `1e30`, `null`, `-5`, `true`} {
		starts = append(starts, claims("nbf", v), claims("iat", v))
	}
	starts = append(starts, claims("iat", ""))

	schemes := func(want string, lines ...string) (all []sent) {
		for _, line := range lines {
			as, sees := "", []string(nil)
			if want == "clean" {
				as = "alice"
			}
			all = append(all, sent{raw: get1("/api/me", line), want: want, as: as, sees: sees})
		}
		return all
	}
	bearer := "Authorization: Bearer " + good
	var elsewhere []sent
	for _, s := range []string{get1("/api/me?access_token=" + good), get1("/api/me?token=" + good + "&jwt=" + good), get1("/api/me", "X-Access-Token: "+good), get1("/api/me", "Sec-WebSocket-Protocol: bearer, "+good), get1("/api/me", "Proxy-Authorization: Bearer "+good),
		get1("/api/me", "X-Authorization: Bearer "+good), get1("/api/me", "Cookie: access_token="+good+"; session="+good), post1("/api/me", "access_token="+good, "Content-Type: application/x-www-form-urlencoded"), get1("/api/me", "X-Forwarded-Access-Token: "+good)} {
		elsewhere = append(elsewhere, sent{raw: s, want: "401"})
	}

	return []hostile{
		{number: 100, name: "HS256 keyed with a public key: PEM with and without its final newline, DER, modulus", sent: presented(confused...), each: saysNoMore},
		{number: 101, name: "other sizes and families: HS384, PS256 for RS256, `none`", sent: presented(families...), each: saysNoMore},
		{number: 101, name: "each configured algorithm with its own key", because: "these are the good ones", sent: []sent{
			{raw: get1("/api/me", bearer), as: "alice", want: "clean"}, {raw: get1("/api/me", "Authorization: Bearer "+signRS(k.rs, rsHeader, k.claims("alice"), false)), as: "alice", want: "clean"},
			{raw: get1("/api/me", "Authorization: Bearer "+signHS(k.hs, `{"alg":"HS256","kid":"hs","typ":"at+jwt"}`, k.claims("alice"))), as: "alice", want: "clean"}}},
		{number: 103, name: "a `jwk` of the attacker in the header", each: saysNoMore, sent: presented(stranger(`{"alg":"ES256","kid":"es","typ":"at+jwt","jwk":`+jwk+`}`), stranger(`{"alg":"ES256","typ":"at+jwt","jwk":`+jwk+`}`), stranger(`{"alg":"ES256","kid":"x","typ":"at+jwt","jwk":`+jwk+`}`),
			header(`{"alg":"ES256","kid":"es","typ":"at+jwt","jwk":`+jwk+`}`), stranger(esHeader), stranger(`{"alg":"ES256","kid":"es","typ":"at+jwt","x5c":["AAAA"]}`))},
		{number: 104, name: "`jku` and `x5u`", run: neverFetched},
		{number: 106, name: "`kid`: paths, SQL, NUL, arrays, missing, another key's", sent: presented(kids...), each: saysNoMore},
		{number: 107, name: "`crit`, `b64`, `zip`, doubled and oddly cased members of the header", sent: presented(crits...), each: saysNoMore},
		{number: 109, name: "`typ` of other tokens, and none", sent: presented(types...), each: saysNoMore},
		{number: 109, name: "one kind of token as another", run: otherKinds},
		{number: 110, name: "signed with an empty secret, a word of a list, part of the secret", sent: presented(secrets...), each: saysNoMore},
		{number: 110, name: "a secret that is unset, known or short, in the configuration", run: weakSecrets},
		{number: 112, name: "ECDSA `(r, n-s)` of a token, before and after the token is revoked", run: secondSignature},
		{number: 113, name: "unused bits of a last base64 character, in each part", sent: presented(loose...), each: saysNoMore},
		{number: 115, name: "padding, `+/`, dots, empty parts, JWE, JSON serialisation, spaces", sent: append(presented(forms...), sent{raw: get1("/api/me", "Authorization: Bearer  "+good), as: "alice", want: "clean"})},
		{number: 116, name: "60,000 dots, tokens of 9 kB and 16 kB", sent: presented(strings.Repeat(".", 59000), good+strings.Repeat("A", 9000), strings.Repeat("A", 16<<10), claims("x", `"`+strings.Repeat("a", 9000)+`"`))},
		{number: 116, name: "a token of 10 MB, a million dots", sent: []sent{{raw: get1("/api/me", "Authorization: Bearer "+strings.Repeat("A", 10<<20)), want: "431"}, {raw: get1("/api/me", "Authorization: Bearer "+strings.Repeat(".", 1<<20)), want: "431"}, {raw: get1("/api/me", "Cookie: __Host-gatehouse="+strings.Repeat(".", 1<<20)), want: "431"}}},
		{number: 118, name: "deep nesting, long numbers, long strings", each: saysNoMore, sent: presented(deep(900), deep(64), claims("x", strings.Repeat("[", 2000)+strings.Repeat("]", 2000)), claims("x", strings.Repeat("9", 8000)), header(`{"alg":"ES256","kid":"es","typ":"at+jwt","x":`+strings.Repeat("[", 500)+strings.Repeat("]", 500)+`}`))},
		{number: 119, name: "compressed JWE, PBES2 with `p2c` of 2^31", sent: presented(b64([]byte(`{"alg":"PBES2-HS256+A128KW","enc":"A128GCM","p2c":2147483647,"p2s":"AAAA"}`))+".AAAA.AAAA.AAAA.AAAA", b64([]byte(`{"alg":"dir","enc":"A128GCM","zip":"DEF"}`))+"..AAAA.AAAA.AAAA",
			header(`{"alg":"PBES2-HS256+A128KW","kid":"es","typ":"at+jwt","p2c":2147483647}`), header(`{"alg":"ES256","kid":"es","typ":"at+jwt","zip":"DEF"}`))},
		{number: 121, name: "`exp` as text, absurd, negative, missing", sent: presented(dates...)},
		{number: 122, name: "`exp` beyond what a date can be", sent: presented(claims("exp", "1e18"), claims("exp", "9.3e18"), claims("exp", "9223372036854775808"), claims("exp", "18446744073709551616"))},
		{number: 124, name: "claims that stand twice, or in another spelling: `EXP`, `\u017fub`", sent: presented(doubled...)},
		{number: 125, name: "`nbf` and `iat` in the future, as text, missing", sent: presented(starts...)},
		{number: 0, name: "expired tokens", sent: presented(claims("exp", fmt.Sprint(now-60)), claims("exp", "1"))},
		{number: 0, name: "`aud` of others, lists with other things, none", sent: presented(audiences...)},
		{number: 0, name: "`sub` missing, no text, with control characters, too long", sent: presented(subjects...)},
		{number: 0, name: "payloads that are no object: `null`, lists, text, two objects, BOM, invalid UTF-8", sent: presented(raw("null"), raw("[]"), raw(`"a"`), raw("1"), raw(""), raw(k.claims("alice")+k.claims("alice")), raw("\ufeff"+k.claims("alice")), raw(k.claims("alice")+" x"), raw("\xff"+k.claims("alice")), claims("name", "\"\xff\""),
			header("null"), header("[]"), header(`"a"`), header(""), header(esHeader+esHeader), header("\ufeff"+esHeader))},
		{number: 127, name: "`iss` missing, a list, with a slash, in another case, look-alikes", sent: presented(issuers...), each: saysNoMore},
		{number: 128, name: "two issuers with the same `sub` or `jti`", because: "identity is (issuer, subject), revocations name the issuer", held: []string{"authn.TestTrustedIssuer", "authn.TestLogoutOfTrustedIssuer", "authn/endpoints.TestOtherIssuersSubject"}},
		{number: 130, name: "`jti` missing, empty, no text, too long, with CR and LF, spaces, `*`, `{}`", sent: presented(ids...)},
		{number: 130, name: "two tokens with one `jti`", run: oddHandles},
		{number: 131, name: "expired, and signed by somebody else", sent: presented(signES256(k.stranger, esHeader, k.claims("alice", "exp", "1"))), each: saysNoMore},
		{number: 133, name: "key rotation: the old key's tokens before and after, a replica that has not heard of it", held: []string{"authn.TestRotation", "authn.TestRotationOfReplicas", "cmd/gatehouse.TestRotationOfLiveReplicas"}},
		{number: 134, name: "`bearer`, `BEARER`, two spaces", because: "the scheme's case does not count (RFC 9110, section 11.1)", sent: schemes("clean", "Authorization: bearer "+good, "Authorization: BEARER "+good, "Authorization:  Bearer   "+good+" ")},
		{number: 134, name: "`Bearer` with a tab, with two tokens, alone; `Basic`, `Token`", sent: schemes("401", "Authorization: Bearer\t"+good, "Authorization: Bearer "+good+","+good, "Authorization: Bearer "+good+", Bearer "+other, "Authorization: Bearer", "Authorization: Bearer ,",
			"Authorization: Basic "+good, "Authorization: Token "+good, "Authorization: "+good, "Authorization: Bearer: "+good, "Authorization: Bearer="+good, "Authorization: DPoP "+good, "Authorization:")},
		{number: 134, name: "two Authorization headers", sent: []sent{{raw: get1("/api/me", bearer, "Authorization: Bearer "+other), want: "400"}, {raw: get1("/api/me", bearer, bearer), want: "400"}, {raw: get1("/api/me", bearer, "authorization: Basic YTpi"), want: "400"},
			{h2: h2get("/api/me", [2]string{"authorization", bearer[15:]}, [2]string{"authorization", "Bearer " + other}), want: "400"}}},
		{number: 136, name: "Bearer of one user and the cookie of another", because: "Bearer wins, everywhere", sent: []sent{
			{raw: get1("/api/me", bearer, "Cookie: __Host-gatehouse="+other), as: "alice", want: "clean", sees: []string{"X-Forwarded-User: u-alice"}}, {raw: get1("/admin/me", bearer, "Cookie: __Host-gatehouse="+other), want: "403"},
			{raw: get1("/api/me", "Authorization: Bearer x", "Cookie: __Host-gatehouse="+other), want: "401"}}},
		{number: 137, name: "a good token in the query, a form, other headers and cookies", because: "it is no credential there", sent: elsewhere, each: func(t *testing.T, b *hostileBed, _ heard) {
			for _, gw := range b.gateways() {
				if strings.Contains(gw.stderr.String(), good) {
					t.Error("the token stands in the log")
				}
			}
		}},
		{number: 139, name: "a token of another environment with the same secret", sent: presented(claims("iss", `"https://dev.example"`), claims("aud", `"gatehouse-dev"`)), each: func(*testing.T, *hostileBed, heard) {}},
		{number: 140, name: "the 649 JOSE vectors of Project Wycheproof, as Bearer and as cookie", run: wycheproofAtTheEdge},
	}
}

// unusedBits are other spellings of the last character of a part, which mean the
// same to a decoder that is not strict.
func unusedBits(token string, part int) (all []string) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	parts := strings.Split(token, ".")
	s := parts[part]
	unused := map[int]int{2: 4, 3: 2}[len(s)%4]
	last := strings.IndexByte(alphabet, s[len(s)-1])
	for other := range 1 << unused {
		if c := last>>unused<<unused | other; c != last {
			parts[part] = s[:len(s)-1] + alphabet[c:c+1]
			all = append(all, strings.Join(parts, "."))
		}
	}
	return all
}

// neverFetched: what a header points to is asked by nobody.
func neverFetched(t *testing.T, b *hostileBed) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	asked := make(chan string, 1)
	go func() {
		if conn, err := l.Accept(); err == nil {
			asked <- conn.RemoteAddr().String()
			conn.Close()
		}
	}()
	k := b.keys
	var tokens []string
	for _, member := range []string{"jku", "x5u"} {
		for _, url := range []string{"http://%s/jwks.json", "http://gw.example@%s/", "http://%s/?https://gw.example/.well-known/jwks.json", "//%s/"} {
			h := fmt.Sprintf(`{"alg":"ES256","kid":"es","typ":"at+jwt",%q:%q}`, member, fmt.Sprintf(url, l.Addr()))
			tokens = append(tokens, signES256(k.stranger, h, k.claims("alice")), k.es256(h, k.claims("alice")))
		}
	}
	c := hostile{sent: presented(tokens...), each: saysNoMore}
	outcome := c.check(t, b, outcomes{})
	select {
	case who := <-asked:
		t.Errorf("%s asked for keys", who)
	default:
	}
	return outcome + ", and nobody asked for it"
}

// secondSignature: a revocation holds for a token, not for its bytes.
func secondSignature(t *testing.T, b *hostileBed) string {
	k := b.keys
	token := k.token("alice")
	i := strings.LastIndexByte(token, '.')
	sig, err := base64.RawURLEncoding.DecodeString(token[i+1:])
	if err != nil {
		t.Fatal(err)
	}
	s := new(big.Int).Sub(k.es.Params().N, new(big.Int).SetBytes(sig[32:]))
	twin := token[:i+1] + b64(append(sig[:32:32], s.FillBytes(make([]byte, 32))...))
	status := func(gw *servedGateway, token string) int {
		rep := b.say(t, gw, get1("/api/me", "Authorization: Bearer "+token)+marker)
		return rep.statuses[0]
	}
	for _, gw := range b.gateways() {
		if got := [2]int{status(gw, token), status(gw, twin)}; got != [2]int{200, 200} {
			t.Errorf("before: %d", got)
		}
		if rep := b.say(t, gw, post1("/logout", "", "Authorization: Bearer "+token, "Content-Type: application/json")+marker); rep.statuses[0] != 204 {
			t.Errorf("logout: %d", rep.statuses)
		}
		if got := [2]int{status(gw, token), status(gw, twin)}; got != [2]int{401, 401} {
			t.Errorf("after: %d", got)
		}
	}
	b.app.take(t)
	return "one token with two signatures: arrives clean as the same user, and both are refused with 401 once one is revoked"
}

// wycheproofAtTheEdge sends the vectors, which are no part of the repository.
func wycheproofAtTheEdge(t *testing.T, b *hostileBed) string {
	dir := os.Getenv("GATEHOUSE_VECTORS")
	if dir == "" {
		dir = filepath.Join(root(t), "..", "shared", "vectors", "wycheproof")
	}
	n := 0
	for _, name := range []string{"json_web_signature_test.json", "json_web_key_test.json", "json_web_crypto_test.json", "json_web_encryption_test.json"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, os.ErrNotExist) {
			t.Skipf("SKIPPED: no Wycheproof vectors in %s; set GATEHOUSE_VECTORS to the folder that has %s", dir, name)
		}
		if err != nil {
			t.Fatal(err)
		}
		var file struct {
			TestGroups []struct {
				Tests []struct{ JWS, JWE json.RawMessage }
			}
		}
		if err := json.Unmarshal(data, &file); err != nil {
			t.Fatal(err)
		}
		for _, g := range file.TestGroups {
			for _, v := range g.Tests {
				n++
				var token string
				if vector := append(v.JWS, v.JWE...); json.Unmarshal(vector, &token) != nil {
					token = strings.Join(strings.Fields(string(vector)), "")
				}
				for _, line := range []string{"Authorization: Bearer " + token, "Cookie: __Host-gatehouse=" + token} {
					rep := b.say(t, b.plain, get1("/api/me", line, "Connection: close"))
					if len(rep.statuses) != 1 || rep.statuses[0] != 401 {
						t.Errorf("%s: %.200s: %d", name, line, rep.statuses)
					}
				}
			}
		}
	}
	if arrived := b.app.take(t); len(arrived) > 0 {
		t.Errorf("%d arrived", len(arrived))
	}
	return fmt.Sprintf("refused with 401 (%d times)", 2*n)
}
