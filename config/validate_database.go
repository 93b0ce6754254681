package config

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// filesOfPostgres are the parameters of a database's URL that name files.
var filesOfPostgres = []string{"sslrootcert", "sslcert", "sslkey", "passfile", "servicefile"}

// postgres checks what any client of PostgreSQL wants of a URL. The rest is the
// driver's to know. Nothing of the URL is shown: where it is malformed, any part
// may be one of the password.
func (v *validator) postgres(key, s string) {
	u, err := url.Parse(s)
	if err != nil || u.Opaque != "" || u.Fragment != "" || strings.Contains(s, "#") {
		v.bad(key, "want postgres://USER:PASSWORD@HOST/DATABASE", "in user and password write %40 for @, %2F for /, %3F for ?, %23 for # and %25 for %")
		return
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		v.bad(key, "want parameters as NAME=VALUE with & between", "")
		return
	}
	if query.Has("service") {
		return // a file of the system says the rest
	}
	if u.Host == "" && !query.Has("host") {
		v.bad(key, "want the server's name, as in postgres://USER:PASSWORD@HOST/DATABASE", "for a socket: postgres://USER@/DATABASE?host=/run/postgresql")
		return
	}
	if strings.Trim(u.Path, "/") == "" && !query.Has("dbname") && !query.Has("database") {
		v.bad(key, "want the database's name, as in postgres://USER:PASSWORD@HOST/DATABASE", "")
		return
	}
	if mode := query.Get("sslmode"); slices.Contains([]string{"", "disable", "allow", "prefer"}, mode) && crossesNetwork(u, query) {
		v.warn(key, key+": passwords' hashes may cross the network unencrypted", "add ?sslmode=verify-full and, if its authority is your own, &sslrootcert=FILE")
	}
}

// crossesNetwork reports whether a server is neither on this machine nor behind
// a socket.
func crossesNetwork(u *url.URL, query url.Values) bool {
	hosts := u.Host
	if query.Has("host") {
		hosts = query.Get("host")
	}
	for host := range strings.SplitSeq(hosts, ",") {
		if name, _, ok := cutPort(host); ok {
			host = name
		}
		a, err := netip.ParseAddr(strings.Trim(host, "[]"))
		if host != "localhost" && !strings.HasPrefix(host, "/") && (err != nil || !a.IsLoopback()) {
			return true
		}
	}
	return false
}

// postgresFiles makes the paths in a database's URL absolute. What is no URL
// stays for postgres to refuse.
func (v *validator) postgresFiles(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return s
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return s
	}
	changed := false
	for _, name := range filesOfPostgres {
		if path := query.Get(name); path != "" && !(name == "sslrootcert" && path == "system") {
			changed = changed || v.absolute(path) != path
			query.Set(name, v.absolute(path))
		}
	}
	if !changed {
		return s
	}
	u.RawQuery = query.Encode()
	return u.String()
}
