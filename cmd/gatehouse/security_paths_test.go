package main

import (
	"fmt"
	"strings"
)

// gets sends GETs for targets, as nobody.
func gets(want string, targets ...string) (all []sent) {
	for _, target := range targets {
		all = append(all, sent{raw: get1(target), want: want})
	}
	return all
}

// gets2 is gets over HTTP/2, which can carry more in a target.
func gets2(want string, targets ...string) (all []sent) {
	for _, target := range targets {
		all = append(all, sent{h2: h2get(target), want: want})
	}
	return all
}

func hosts(want string, names ...string) (all []sent) {
	for _, name := range names {
		all = append(all, sent{raw: "GET /public/a HTTP/1.1\r\nHost: " + name + "\r\n\r\n", want: want})
	}
	return all
}

func join(lists ...[]sent) (all []sent) {
	for _, list := range lists {
		all = append(all, list...)
	}
	return all
}

func pathCases(b *hostileBed) []hostile {
	alice, admin := "Authorization: Bearer "+b.keys.token("alice"), "Authorization: Bearer "+b.keys.token("admin")
	as := func(want string, targets ...string) (all []sent) {
		for _, target := range targets {
			all = append(all, sent{raw: get1(target, alice), as: "alice", want: want})
		}
		return all
	}
	request := func(want, line string, lines ...string) sent {
		return sent{raw: line + "\r\nHost: gw.example\r\n" + strings.Join(append(lines, ""), "\r\n") + "\r\n", want: want}
	}
	unfolded := []string{"/adm%C4%B1n/x", "/adm\xc4\xb1n/x", "/%EF%BC%A1dmin/x", "/%ef%bd%81dmin/x", "/a\xcc\x81dmin", "/%E2%84%AAdmin", "/\xff\xfeadmin"}
	return []hostile{
		{number: 28, name: "dot segments: `/./admin/x`, `/admin/.`, `/admin/..;/admin/x`", sent: gets("400", "/./admin/x", "/admin/.", "/admin/./", "/admin/..;/admin/x", "/public/.", "/public/./a",
			"/public/.;/a", "/public/..", "/..", "/.", "/public/...;/../a", "/public/. ./a", "/public/..%20/a", "/public/.%00./a")},
		{number: 29, name: "`/public/../admin/x`", sent: join(gets("400", "/public/../admin/x", "/public/a/../../admin/x", "/public/../public/a", "/public//../admin", "/../public/a"), gets2("400", "/public/../admin/x"))},
		{number: 31, name: "encoded dots and slashes: `/public/..%2fadmin%2fx`", sent: join(gets("400", "/public/..%2fadmin%2fx", "/public%2f..%2fadmin", "/public/%2e%2e/admin", "/public/%2e%2e%2fadmin",
			"/public/.%2e/admin", "/public/%2E./admin", "/public/%252e%252e/admin", "/public/%25252e%25252e/admin", "/public/..%252fadmin", "/public/%2e%2e;/admin", "/public/%u002e%u002e/admin", "/public/%%32%65%%32%65/admin"),
			gets2("400", "/public/..%2fadmin%2fx", "/public/%2e%2e/admin"))},
		{number: 32, name: "encoded letters: `/%61dmin/x`", sent: join(gets("401", "/%61dmin/x", "/%41DMIN/x", "/%61%64%6d%69%6e/x", "/adm%69n"), as("403", "/%61dmin/x", "/%41DMIN/x", "/adm%49n/x"))},
		{number: 32, name: "letters encoded twice: `/%2561dmin/x`", sent: join(gets("401", "/%2561dmin/x", "/%25%36%31dmin/x"), as("403", "/%2561dmin/x", "/%252561dmin/x"))},
		{number: 34, name: "encoded slashes and backslashes", sent: join(gets("400", "/admin%2fx", "/admin%5cx", "/admin\\x", "/public\\..\\admin", "/public/..%5cadmin", "/public%5c..%5cadmin", "/public/a%2fb", "/public/a%252f..%252f..%252fadmin",
			"/public/%5c%5cevil/x"), as("400", "/admin%2fx", "/api%2f..%2fadmin"))},
		{number: 35, name: "parameters: `/admin;jsessionid=1/x`", sent: join(gets("401", "/admin;jsessionid=1/x", "/admin;/x", "/;/admin/x", "/;a=b/admin/x"), gets("400", "/public/..;/admin/x", "/public;/../admin/x", "/public/..;a=b/admin"),
			as("403", "/admin;jsessionid=1/x", "/;/admin/x", "/admin;a/x;b", "/admin%3bx/y"))},
		{number: 35, name: "parameters and signs where every reading is public", because: "all readings agree", sent: gets("clean", "/public/a;b=c", "/public/a;b/c;d", "/public/a%3bb", "/public/a%255cb", "/public/%7Eann")},
		{number: 37, name: "overlong UTF-8 and bytes that no UTF-8 has", sent: gets("400", "/%c0%ae%c0%ae/admin", "/public/%c0%ae%c0%ae/admin", "/public/\xc0\xaf", "/public/%e0%80%ae", "/public/%f0%80%80%ae", "/public/%c1%9c", "/public/%ff",
			"/public/%ed%a0%80", "/public/%f5%80%80%80", "/public/%fe%fe%ff", "/public/%ef%bc%8f..%ef%bc%8fadmin", "/public/%ef%bc%8e%ef%bc%8e/admin")},
		{number: 37, name: "letters that fold to others", sent: join(gets("401", unfolded[:6]...), gets("400", unfolded[6]), as("403", unfolded[0], unfolded[2], unfolded[3]))},
		{number: 38, name: "case: `/ADMIN/x`", sent: join(gets("401", "/ADMIN/x", "/Admin/x", "/aDMIN", "/Public/a", "/PUBLIC/../a"[:7]), as("403", "/ADMIN/x", "/Admin", "/admIN/x"))},
		{number: 40, name: "the query as a path: `/admin/x?/public/`", sent: join(gets("401", "/admin/x?/public/", "/admin/x?p=/public/a", "/admin?/../public", "/x?/public/a", "/admin%3f/public", "/admin%23/public"), gets("400", "/admin#/public", "/public/a#b"),
			as("403", "/admin%3f/public", "/admin%23/public", "/admin?/api/x"))},
		{number: 40, name: "`/public/a?/admin/x`", because: "rules see the path only", sent: []sent{{raw: get1("/public/a?/admin/x"), want: "clean", sees: []string{"GET /public/a?/admin/x HTTP/1.1"}}}},
		{number: 41, name: "regular expressions, unanchored patterns", because: "there are none: paths match on whole segments", sent: join(gets("401", "/api/private/x%20/status", "/x/public", "/admin/public", "/publicx", "/public.html", "/publi"),
			gets("400", "/api/private/x%0a/status", "/api/a/status/../../secret"))},
		{number: 43, name: "near the gateway's own pages: `/login/`, `//login`, `/login;x`", because: "only the exact path is the gateway's", sent: join(gets("401", "/login/", "//login", "/login;x", "/LOGIN", "/login%3b", "/register/"), gets("404", "/.gatehouse/login/x", "/.gatehouse", "/.gatehouse/"),
			gets("400", "/login%2f", "/login/../admin", "/.gatehouse/../admin", "/.gatehouse/%2e%2e/admin"))},
		{number: 44, name: "strip_prefix: what remains is a path of its own", sent: join(gets("400", "/strip%2f..%2fadmin", "/strip/../admin", "/strip//admin", "/strip/%2e%2e/admin", "/strip/..;/admin"),
			gets("401", "/stripadmin", "/strip%61dmin"), []sent{{raw: get1("/strip/admin"), want: "clean", sees: []string{"GET /admin HTTP/1.1"}}, {raw: get1("/strip"), want: "clean", sees: []string{"GET / HTTP/1.1"}},
				{raw: get1("/%73trip/a"), want: "clean", sees: []string{"GET /a HTTP/1.1"}}}), because: "the operator has put that upstream's whole tree under /strip"},
		{number: 46, name: "absolute target, same host", sent: join(gets("401", "http://gw.example/admin/x", "HTTP://GW.EXAMPLE/admin/x", "https://gw.example:443/admin", "http://gw.example"), as("403", "http://gw.example/admin/x"),
			[]sent{{raw: get1("http://gw.example/public/a"), want: "clean", sees: []string{"GET /public/a HTTP/1.1", "Host: gw.example"}}})},
		{number: 47, name: "absolute target, another host than Host", because: "the target's host counts, for rules and upstream alike", sent: gets("401", "http://other.example/public/a", "http://other.example/x", "http://OTHER.example./public")},
		{number: 47, name: "absolute targets that are odd", sent: gets("400", "http://gw.example@other.example/public/a", "http://u:p@gw.example/public/a", "ftp://gw.example/public/a", "http:///public/a", "http:/public/a", "http:public/a",
			"http://gw.example\\@other.example/public", "//gw.example/public/a"[1:1]+"http://[::1/public", "file:///etc/passwd", "ws://gw.example/public/a")},
		{number: 0, name: "`//gw.example/public/a`", sent: gets("401", "//gw.example/public/a", "//public/a", "///public/a", "//other.example/public/a")},
		{number: 0, name: "doubled slashes inside", because: "all readings agree", sent: gets("clean", "/public//a", "/public///")},
		{number: 49, name: "opaque targets: `gw:80`, `x:admin`, `javascript:1`", sent: gets("400", "gw:80", "x:admin", "admin", "javascript:1", "gw.example:80", "/"[:0]+"?a", "%2fadmin", "data:,x", ":", "a:/b")},
		{number: 50, name: "`*` as a target", sent: join(gets("400", "*", "*/x", "/*"[1:]+"?x"), []sent{request("400", "OPTIONS */x HTTP/1.1"), request("505", "PRI * HTTP/2.0"), {raw: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", want: "505"},
			{h2: [][2]string{{":method", "GET"}, {":scheme", "https"}, {":path", "*"}, {":authority", "gw.example"}}, want: "400"}})},
		{number: 50, name: "`OPTIONS *`", because: "it says nothing about anything", sent: []sent{request("own 204", "OPTIONS * HTTP/1.1"),
			{h2: [][2]string{{":method", "OPTIONS"}, {":scheme", "https"}, {":path", "*"}, {":authority", "gw.example"}}, want: "own 204"}}},
		{number: 52, name: "TRACE and CONNECT", sent: []sent{request("405", "TRACE /admin HTTP/1.1", "Cookie: a=b"), request("405", "TRACE /public/a HTTP/1.1", "Max-Forwards: 0"), request("405", "CONNECT gw.example:443 HTTP/1.1"),
			request("405", "CONNECT //admin/x HTTP/1.1"), request("405", "CONNECT /admin HTTP/1.1"), {raw: get1("/public/a", "X-HTTP-Method: TRACE"), want: "clean", sees: []string{"!TRACE"}},
			{h2: [][2]string{{":method", "TRACE"}, {":scheme", "https"}, {":path", "/public/a"}, {":authority", "gw.example"}}, want: "405"},
			{h2: [][2]string{{":method", "CONNECT"}, {":authority", "gw.example:443"}}, want: "405"},
			{h2: [][2]string{{":method", "CONNECT"}, {":protocol", "websocket"}, {":scheme", "https"}, {":path", "/ws"}, {":authority", "gw.example"}}, want: "reset"}}},
		{number: 53, name: "methods that nobody has registered: `get`, `GETT`", because: "every rule of the path has to be satisfied", sent: []sent{request("401", "get /admin HTTP/1.1"), request("401", "GETT /admin/x HTTP/1.1"), request("401", "get /read/a HTTP/1.1"),
			request("401", "FOO /read/a HTTP/1.1"), request("401", "post /read/a HTTP/1.1"), request("405", strings.Repeat("A", 10000)+" /public/a HTTP/1.1"), request("405", strings.Repeat("A", 33)+" /public/a HTTP/1.1")}},
		{number: 53, name: "methods that are no token", sent: []sent{request("400", "G=\": /public/a HTTP/1.1"), request("400", "G(T /public/a HTTP/1.1"), request("400", " GET /public/a HTTP/1.1"), request("400", "\x80 /public/a HTTP/1.1"), request("400", "GET, /public/a HTTP/1.1"),
			{h2: [][2]string{{":method", "GE T"}, {":scheme", "https"}, {":path", "/public/a"}, {":authority", "gw.example"}}, want: "400"},
			{h2: [][2]string{{":method", "GET / HTTP/1.1\r\nX: y"}, {":scheme", "https"}, {":path", "/public/a"}, {":authority", "gw.example"}}, want: "reset"},
			{h2: [][2]string{{":method", ""}, {":scheme", "https"}, {":path", "/public/a"}, {":authority", "gw.example"}}, want: "reset"}}},
		{number: 55, name: "HEAD where a rule lists only GET, and on protected paths", sent: []sent{request("401", "HEAD /admin/x HTTP/1.1"), request("clean", "HEAD /read/a HTTP/1.1"), request("401", "POST /read/a HTTP/1.1", "Content-Length: 0")}},
		{number: 56, name: "method override headers", sent: func() (all []sent) {
			for _, name := range []string{"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X_HTTP_Method_Override", "x-http-method-override"} {
				all = append(all, sent{raw: post1("/public/x", "", name+": DELETE"), want: "clean", sees: []string{"!DELETE"}})
			}
			return all
		}()},
		{number: 56, name: "`?_method=DELETE`", because: "the query is the app's own; an app that believes it needs a rule of its own", sent: []sent{{raw: post1("/public/x?_method=DELETE", ""), want: "clean", sees: []string{"POST /public/x?_method=DELETE HTTP/1.1"}}}},
		{number: 58, name: "spellings of a host: `GW.EXAMPLE`, `gw.example.:00080`", sent: join(hosts("clean", "GW.EXAMPLE", "gw.example.", "gw.example:80", "gw.example:00080", "gw.example:", "gw.example.:8443"),
			hosts("401", "OTHER.example", "other.example.", "other.example:80", "other.example:", "other.EXAMPLE.:00443")), because: "one form of it chooses the rules"},
		{number: 58, name: "ports out of range, two final dots", sent: hosts("400", "gw.example:99999", "gw.example:0", "gw.example:-1", "gw.example:8 0", "gw.example:80:80", "gw.example..", ".gw.example", "gw..example")},
		{number: 59, name: "hosts that are none", sent: hosts("400", "gw.example/x", "gw@evil", "[::1", "::1]", "[fe80::1%25eth0]", "[::g]", "gw.example\x00", "gw\texample", "gw.example#", "gw.example?x", "", " ", "\"gw\"", "gw,other", "gw.example, other.example",
			"gw%2eexample", "\xc3\xa9.example", strings.Repeat("a", 64)+".example", strings.Repeat("a.", 200)+"example", "gw_ex*mple", "*")},
		{number: 59, name: "a host of 1 MB", sent: hosts("431", strings.Repeat("a", 1<<20))},
		{number: 59, name: "punycode and IPv6 as a host", because: "they are hosts like others", sent: hosts("clean", "xn--gw-example", "[::1]:80", "127.0.0.1", "a_b.example")},
		{number: 0, name: "two Host lines, none, an empty one", sent: []sent{{raw: "GET /public/a HTTP/1.1\r\n\r\n", want: "400"}, {raw: get1("/public/a", "Host: gw.example"), want: "400"}, {raw: get1("/public/a", "host: other.example"), want: "400"},
			{raw: "GET /public/a HTTP/1.1\r\nHost:\r\n\r\n", want: "400"}, {raw: "GET http://gw.example/public/a HTTP/1.1\r\nHost:\r\n\r\n", want: "400"}}},
		{number: 61, name: "TLS for one host, Host of another", because: "rules go by Host; no rule goes by the TLS name", sent: []sent{
			{raw: "GET /public/a HTTP/1.1\r\nHost: other.example\r\n\r\n", want: "401"}, {h2: [][2]string{{":method", "GET"}, {":scheme", "https"}, {":path", "/public/a"}, {":authority", "other.example"}}, want: "401"}}},
		{number: 62, name: "versions: 0.9, 1.2, 2.0, `http/1.1`, spaces", sent: []sent{{raw: "GET /public/a\r\n\r\n", want: "400"}, request("505", "GET /public/a HTTP/1.2"), request("505", "GET /public/a HTTP/2.0"), request("505", "GET /public/a HTTP/0.9"),
			request("400", "GET /public/a HTTP/1.1 "), request("400", "GET /public/a http/1.1"), request("400", "GET /public/a  HTTP/1.1"), request("400", "GET /public/a HTTP/1.10"), request("400", "GET /public/a HTTP/+1.1")}},
		{number: 62, name: "HTTP/1.0 without Host", sent: []sent{{raw: "GET /public/a HTTP/1.0\r\n\r\n", want: "400"}, {raw: "GET /admin HTTP/1.0\r\n\r\n", want: "400"}}},
		{number: 64, name: "health checks, metrics and profiles on the public listener", because: "they are on the admin listener; here they are paths like others", sent: join(gets("401", "/healthz", "/readyz", "/metrics", "/debug/pprof/", "/ping"), gets("404", "/.gatehouse/metrics", "/.gatehouse/healthz"),
			[]sent{{raw: get1("/admin", "User-Agent: GoogleHC/1.0"), want: "401"}, {raw: get1("/admin", "User-Agent: kube-probe/1.29", "X-Health-Check: 1"), want: "401"}})},
		{number: 65, name: "queries that parsers disagree about", because: "nothing is decided by the query, and it arrives to the byte", sent: func() (all []sent) {
			for _, query := range []string{"a=1;b=2", "%zz", "a=%", "a&a&a", "=", "?", "a=b%00c", strings.Repeat("a=b&", 10001), "\xff", "/../admin"} {
				all = append(all, sent{raw: get1("/public/a?" + query), want: "clean", sees: []string{fmt.Sprintf("GET /public/a?%s HTTP/1.1", query)}})
			}
			return all
		}()},
		{number: 94, name: "HTTP/2: `:authority` against `host`, `:path` and pseudo-headers that are odd", sent: append(pseudoHeaders(), sent{h2: h2get("/admin/x", [2]string{"authorization", admin[15:]}), as: "admin", want: "clean"})},
	}
}

func pseudoHeaders() (all []sent) {
	add := func(want string, fields ...string) {
		s := sent{want: want}
		for i := 0; i < len(fields); i += 2 {
			s.h2 = append(s.h2, [2]string{fields[i], fields[i+1]})
		}
		all = append(all, s)
	}
	const m, sc, p, a = ":method", ":scheme", ":path", ":authority"
	add("400", m, "GET", sc, "https", p, "/public/a", a, "gw.example", "host", "other.example")
	add("400", m, "GET", sc, "https", p, "/public/a", a, "other.example", "host", "gw.example")
	add("400", m, "GET", sc, "https", p, "/public/a", "host", "gw.example", "host", "other.example")
	add("clean", m, "GET", sc, "https", p, "/public/a", "host", "gw.example")
	add("clean", m, "GET", sc, "https", p, "/public/a", a, "GW.example.:443", "host", "gw.example")
	add("400", m, "GET", sc, "https", p, "/public/a")
	add("400", m, "GET", sc, "https", p, "/public/a", a, "")
	add("400|reset", m, "GET", sc, "https", p, "/public/a", a, "gw.example@evil")
	add("400|reset", m, "GET", sc, "https", p, "/public/a", a, "gw.example/admin")
	add("400", m, "GET", sc, "https", p, "/public/a", a, "gw example")
	add("reset", m, "GET", sc, "https", p, "", a, "gw.example")
	add("reset", m, "GET", sc, "https", a, "gw.example")
	add("reset", m, "GET", sc, "https", p, "public/a", a, "gw.example")
	add("400", m, "GET", sc, "https", p, "https://gw.example/public/a", a, "gw.example")
	add("400", m, "GET", sc, "https", p, "https://other.example/x", a, "gw.example")
	add("400", m, "GET", sc, "https", p, "/public/a#b", a, "gw.example")
	add("400", m, "GET", sc, "https", p, "/public/a HTTP/1.1", a, "gw.example")
	add("400", m, "GET", sc, "https", p, "/public/a?x y", a, "gw.example")
	add("reset", m, "GET", sc, "https", p, "/public/a\r\nX: y", a, "gw.example")
	add("reset", m, "GET", sc, "https", p, "/public/a\x00", a, "gw.example")
	add("reset", m, "GET", sc, "https", p, "/public/a", p, "/admin", a, "gw.example")
	add("reset", m, "GET", m, "POST", sc, "https", p, "/public/a", a, "gw.example")
	add("reset", m, "GET", sc, "https", p, "/public/a", a, "gw.example", a, "other.example")
	add("reset", m, "GET", sc, "https", p, "/public/a", "x", "y", a, "gw.example")
	add("reset", m, "GET", sc, "https", p, "/public/a", a, "gw.example", ":status", "200")
	add("reset", m, "GET", sc, "https", p, "/public/a", a, "gw.example", ":x-forwarded-user", "admin")
	add("reset", m, "GET", sc, "ftp", p, "/public/a", a, "gw.example")
	add("reset", m, "GET", p, "/public/a", a, "gw.example")
	add("reset", m, "GET", sc, "https", p, "/public/a", a, "gw.example", "X-Upper", "case")
	add("reset", m, "GET", sc, "https", p, "/public/a", a, "gw.example", "x y", "z")
	add("reset", m, "GET", sc, "https", p, "/public/a", a, "gw.example", "x", "y\r\nx-forwarded-user: admin")
	return all
}
