package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// lines is a GET with these header lines.
func get1(target string, lines ...string) string {
	return "GET " + target + " HTTP/1.1\r\nHost: gw.example\r\n" + strings.Join(append(lines, ""), "\r\n") + "\r\n"
}

func post1(target string, body string, lines ...string) string {
	lines = append(lines, fmt.Sprintf("Content-Length: %d", len(body)), "")
	return "POST " + target + " HTTP/1.1\r\nHost: gw.example\r\n" + strings.Join(lines, "\r\n") + "\r\n" + body
}

// chunked1 is a POST in one chunk and trailers.
func chunked1(target, body string, trailers []string, lines ...string) string {
	lines = append(lines, "Transfer-Encoding: chunked", "")
	return "POST " + target + " HTTP/1.1\r\nHost: gw.example\r\n" + strings.Join(lines, "\r\n") + "\r\n" +
		fmt.Sprintf("%x\r\n%s\r\n0\r\n", len(body), body) + strings.Join(append(trailers, ""), "\r\n") + "\r\n"
}

func h2get(target string, more ...[2]string) [][2]string {
	return append([][2]string{{":method", "GET"}, {":scheme", "https"}, {":path", target}, {":authority", "gw.example"}}, more...)
}

// spellings are the eight ways to write a name of two dashes with dashes and
// underscores, in this case and in two others.
func spellings(name string) (all []string) {
	for i := range 8 {
		s, bit := []byte(name), 0
		for at, c := range s {
			if c == '-' {
				if i&(1<<bit) != 0 {
					s[at] = '_'
				}
				bit++
			}
		}
		all = append(all, string(s), strings.ToUpper(string(s)), strings.ToLower(string(s)))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func identityCases(b *hostileBed) []hostile {
	alice, admin := "Authorization: Bearer "+b.keys.token("alice"), "Authorization: Bearer "+b.keys.token("admin")
	const forged = "X-Forwarded-User: admin"
	const trueOne = "X-Forwarded-User: u-alice"
	// both sends lines with alice's token to /api and without one to /public.
	both := func(want string, lines ...string) []sent {
		return []sent{
			{raw: get1("/api/me", append(lines, alice)...), as: "alice", want: want, sees: []string{trueOne}},
			{raw: get1("/public/a", lines...), want: want},
		}
	}
	each := func(want string, lines ...string) (all []sent) {
		for _, line := range lines {
			all = append(all, both(want, line)...)
		}
		return all
	}
	names := []string{"X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups", "X-Forwarded-Preferred-Username", "X-Gatehouse-Assertion"}
	var named, odd, values, overHTTP2 []string
	for _, name := range names {
		named = append(named, name+": admin", strings.ToLower(name)+":admin", strings.ToUpper(name)+":  admin ")
	}
	for _, name := range spellings("X-Forwarded-User") {
		odd = append(odd, name+": admin")
	}
	for _, c := range "!#$%&'*+.^`|~" {
		odd = append(odd, strings.ReplaceAll("X-Forwarded-User", "-", string(c))+": admin", "X-Forwarded"+string(c)+"User: admin")
	}
	for _, value := range []string{"", "admin, u-alice", "users, admins", "\"admin\"", "a\tb", strings.Repeat("a", 10000), "\x85admin\xa0", "\xc3\xa9"} {
		values = append(values, "X-Forwarded-Groups: "+value)
	}
	for _, name := range slices.Concat(names, spellings("X-Forwarded-User"), []string{"x.forwarded.user", "x-forwarded~user"}) {
		overHTTP2 = append(overHTTP2, strings.ToLower(name))
	}
	slices.Sort(overHTTP2)
	overHTTP2 = slices.Compact(overHTTP2)
	var frames []sent
	for _, name := range overHTTP2 {
		frames = append(frames,
			sent{h2: h2get("/public/a", [2]string{name, "admin"}), want: "clean"},
			sent{h2: h2get("/api/me", [2]string{name, "admin"}, [2]string{"authorization", alice[15:]}), as: "alice", want: "clean", sees: []string{trueOne}})
	}

	// Trailers: in announced and unannounced form.
	var trailers, trailersHTTP2 []sent
	for _, field := range []string{forged, "x_forwarded_user: admin", "X-Gatehouse-Assertion: a.b.c", "Host: other.example", "Content-Length: 5", "Transfer-Encoding: chunked",
		"Authorization: Bearer x", "Cookie: __Host-gatehouse=x", "Connection: X-Forwarded-User", "Set-Cookie: a=b", "X-Forwarded-For: 1.2.3.4", "X-Original-URL: /admin"} {
		name, value, _ := strings.Cut(field, ": ")
		sees := []string{"trailer X-Sum: 42", "!trailer " + name, "hello"}
		announced, overHTTP2 := "clean", "clean"
		if name == "Content-Length" || name == "Transfer-Encoding" { // RFC 9110, section 6.5.1
			announced = "400"
		}
		if slices.Contains([]string{"Content-Length", "Authorization", "Connection", "Transfer-Encoding", "Host"}, name) {
			overHTTP2 = "cut|reset"
		}
		trailers = append(trailers,
			sent{raw: chunked1("/public/a", "hello", []string{field}), want: "clean", sees: []string{"!trailer "}},
			sent{raw: chunked1("/public/a", "hello", []string{field, "X-Sum: 42"}, "Trailer: X-Sum"), want: "clean", sees: sees},
			sent{raw: chunked1("/public/a", "hello", []string{field, "X-Sum: 42"}, "Trailer: X-Sum, "+name), want: announced, sees: sees},
			sent{raw: chunked1("/api/a", "hello", []string{field, "X-Sum: 42"}, "Trailer: "+name+", X-Sum", alice), as: "alice", want: announced, sees: append(sees, trueOne)})
		trailersHTTP2 = append(trailersHTTP2, sent{
			h2:   append(h2get("/public/a", [2]string{"trailer", strings.ToLower(name)}, [2]string{"trailer", "x-sum"})[1:], [2]string{":method", "POST"}),
			body: "hello", h2trailer: [][2]string{{strings.ToLower(name), value}, {"x-sum", "42"}}, want: overHTTP2, sees: []string{"!trailer " + name}})
	}
	for i := range trailersHTTP2 { // pseudo-headers first
		f := trailersHTTP2[i].h2
		trailersHTTP2[i].h2 = append([][2]string{f[len(f)-1]}, f[:len(f)-1]...)
	}

	metadata := []string{"Forwarded: for=1.2.3.4;host=evil;proto=https", "X-Forwarded-Host: evil", "X-Forwarded-Proto: gopher", "X-Forwarded-Port: 1", "X-Forwarded-Prefix: /admin",
		"X-Forwarded-Uri: /admin", "X-Forwarded-Method: DELETE", "X-Forwarded-Scheme: evil", "X-Forwarded-Server: evil", "X-Real-IP: 1.2.3.4", "X-Original-URL: /admin", "X-Rewrite-URL: /admin",
		"X_Forwarded_Host: evil", "X-Original_URL: /admin", "X.Real.IP: 1.2.3.4", "X-Original-Host: evil", "X-Forwarded: for=1.2.3.4", "X-Host: evil", "X-HTTP-Host-Override: evil",
		"X-Client-IP: 1.2.3.4", "True-Client-IP: 1.2.3.4", "CF-Connecting-IP: 1.2.3.4", "CF-Connecting-IPv6: ::1", "Fastly-Client-IP: 1.2.3.4", "Fly-Client-IP: 1.2.3.4", "X-Cluster-Client-IP: 1.2.3.4",
		"X-Azure-ClientIP: 1.2.3.4", "X-Azure-SocketIP: 1.2.3.4", "X-AppEngine-User-IP: 1.2.3.4", "X-Originating-IP: 1.2.3.4", "X-Remote-IP: 1.2.3.4", "X-Remote-Addr: 1.2.3.4", "Remote-Addr: 1.2.3.4",
		"X-Scheme: evil", "Proxy: http://evil", "X-Middleware-Subrequest: middleware", "X-Envoy-Original-Path: /admin", "X-Envoy-External-Address: 1.2.3.4"}
	var metadataSent []sent
	for _, line := range metadata {
		name, value, _ := strings.Cut(line, ": ")
		sees := []string{"!: " + value + "\n", "X-Forwarded-Host: gw.example", "X-Real-Ip: 127.0.0.1"}
		metadataSent = append(metadataSent, sent{raw: get1("/public/a", line), want: "clean", sees: sees},
			sent{h2: h2get("/public/a", [2]string{strings.ToLower(name), value}), want: "clean", sees: sees})
	}
	var clients []sent
	for _, value := range []string{"127.0.0.1", "1.2.3.4, 5.6.7.8", "::ffff:1.2.3.4", "unknown", "", ",", strings.Repeat("1.2.3.4, ", 1100) + "1.2.3.4", "[::1]:80", "\xff"} {
		clients = append(clients, sent{raw: get1("/public/a", "X-Forwarded-For: "+value, "X-Forwarded-For: 9.9.9.9"), want: "clean",
			sees: []string{"X-Forwarded-For: 127.0.0.1", "X-Real-Ip: 127.0.0.1", "!9.9.9.9"}})
	}

	return []hostile{
		{number: 1, name: "identity headers of the client on a protected route", sent: func() (all []sent) {
			for _, line := range named {
				all = append(all, sent{raw: get1("/api/me", line, alice), as: "alice", want: "clean", sees: []string{trueOne}},
					sent{raw: get1("/admin/me", line, admin), as: "admin", want: "clean", sees: []string{"X-Forwarded-User: u-admin"}},
					sent{raw: get1("/admin/me", line, alice), want: "403"})
			}
			return all
		}()},
		{number: 2, name: "identity headers of the client on a public route", sent: func() (all []sent) {
			for _, line := range named {
				all = append(all, sent{raw: get1("/public/a", line), want: "clean"}, sent{raw: get1("/strip/a", line), want: "clean"})
			}
			return all
		}()},
		{number: 0, name: "identity headers over HTTP/2, in every spelling", sent: frames},
		{number: 4, name: "`X_Forwarded_User`", sent: both("clean", "X_Forwarded_User: admin")},
		{number: 5, name: "dashes and underscores mixed, any case; every other byte a name may have instead of a dash", sent: each("clean", odd...)},
		{number: 0, name: "names that only begin or end like one", because: "no server takes them for it", sent: []sent{
			{raw: get1("/public/a", "X-Forwarded-Users-Of: a"), want: "clean"}, {raw: get1("/public/a", "My-Forwarded-User: a"), want: "clean", sees: []string{"My-Forwarded-User: a"}}}},
		{number: 7, name: "lists, odd and empty values", sent: each("clean", values...)},
		{number: 0, name: "the same header many times", sent: slices.Concat(both("clean", forged, forged, forged), both("clean", forged, "x-forwarded-user: b", "X_FORWARDED_USER: c"))},
		{number: 8, name: "`Connection: close, X-Forwarded-User`", sent: slices.Concat(
			both("clean", "Connection: close, X-Forwarded-User"), both("clean", "Connection: X-Forwarded-User", forged), both("clean", "connection: x-forwarded-user,X-FORWARDED-GROUPS", "Connection: X-Gatehouse-Assertion"))},
		{number: 10, name: "the same in a handshake for a websocket", run: func(t *testing.T, b *hostileBed) string { return upgradeNames(t, b, alice) }},
		{number: 11, name: "`Connection: Cookie, Authorization, Content-Type, X-Forwarded-For, X-Request-Id`", because: "the client loses its own fields only", sent: []sent{
			{raw: get1("/api/me", "Connection: Cookie, Authorization, Content-Type, X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, X-Real-IP, X-Request-Id", alice), as: "alice", want: "clean",
				sees: []string{trueOne, "X-Forwarded-For: 127.0.0.1", "X-Real-Ip: 127.0.0.1", "X-Forwarded-Host: gw.example"}},
			{raw: get1("/api/me", "Connection: Host, Content-Length, Transfer-Encoding", alice), as: "alice", want: "clean", sees: []string{"Host: gw.example"}}}},
		{number: 13, name: "identity, framing, credential and routing fields as trailers, announced or not", sent: trailers},
		{number: 0, name: "the same trailers over HTTP/2", sent: trailersHTTP2},
		{number: 14, name: "space or tab before the colon", sent: each("400", "X-Forwarded-User : admin", "X-Forwarded-User\t: admin", "X-Forwarded-User \t : admin")},
		{number: 16, name: "space before the first header line", sent: []sent{
			{raw: "GET /public/a HTTP/1.1\r\n X-Forwarded-User: admin\r\nHost: gw.example\r\n\r\n", want: "400"},
			{raw: "GET /public/a HTTP/1.1\r\n\tX-Forwarded-User: admin\r\nHost: gw.example\r\n\r\n", want: "400"},
			{raw: "GET /public/a HTTP/1.1\r\n \r\nHost: gw.example\r\n\r\n", want: "400"}}},
		{number: 17, name: "bare CR, LF, NUL and other controls inside a value", sent: each("400", "X-A: b\rX-Forwarded-User: admin", "X-A: b\nX-Forwarded-User: admin", "X-A: b\x00", "X-A: \x0bb",
			"X-A: b\r\r", "X-A: b\n\n", "X-A: b\x7f", "X-A:\x0c")},
		{number: 19, name: "8-bit bytes in a name", sent: each("400", "X-Forwarded-User\x85: admin", "\xa0X-Forwarded-User: admin", "X\xe2\x80\x90Forwarded-User: admin", "X-Forwarded-\xc5\xb5ser: admin")},
		{number: 19, name: "8-bit bytes at the edges of a value", because: "as they came, in a header that means nothing to anybody", sent: each("clean", "X-Note: \x85admin\xa0", "X-Note: \xe3\x80\x80admin")},
		{number: 20, name: "no name, no colon, colon first", sent: each("400", ": admin", "X-Forwarded-User", ":authority: x", "=: a", "X-Forwarded-User admin")},
		{number: 22, name: "forwarding metadata of a peer that is no trusted proxy", sent: metadataSent},
		{number: 22, name: "the same from a trusted proxy", because: "`X-Forwarded-*` of it are believed, routing and identity headers are not", run: trustedProxy},
		{number: 23, name: "`X-Forwarded-For` in every form, against the client's address", sent: clients},
		{number: 25, name: "CR and LF in `next`, in names and in paths that are logged", run: injectedLines},
		{number: 26, name: "the gateway's cookie, with the app's own around it", sent: []sent{
			{raw: get1("/api/me", "Cookie: a=1; __Host-gatehouse="+alice[22:]+"; b=2"), as: "alice", want: "clean", sees: []string{"Cookie: a=1; b=2", trueOne}},
			{raw: get1("/public/a", "Cookie: __Host-gatehouse="+alice[22:]), want: "clean", sees: []string{"!Cookie"}},
			{raw: get1("/public/a", "Cookie: a=1", "Cookie: __Host-gatehouse-refresh=x; b=2"), want: "clean", sees: []string{"Cookie: a=1", "Cookie: b=2"}},
			{h2: h2get("/api/me", [2]string{"cookie", "a=1"}, [2]string{"cookie", "__Host-gatehouse=" + alice[22:]}, [2]string{"cookie", "b=2"}), as: "alice", want: "clean", sees: []string{trueOne}}}},
		{number: 26, name: "the Bearer token that was verified", sent: []sent{
			{raw: get1("/api/me", alice), as: "alice", want: "clean", sees: []string{"!Authorization"}},
			{raw: get1("/token/a", alice), as: "alice", want: "clean", sees: []string{alice}}}},
		{number: 26, name: "`Authorization` on a public route", because: "nothing is verified there, it is the app's own", sent: []sent{
			{raw: get1("/public/a", "Authorization: Basic YTpi"), want: "clean", sees: []string{"Authorization: Basic YTpi"}}}},
	}
}
