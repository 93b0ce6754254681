package config

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// revocation shows no value of redis: any of them may hold a password.
func (v *validator) revocation() {
	r := v.c.Revocation
	v.lasts("revocation.max_staleness", r.MaxStaleness, time.Second, 24*time.Hour)
	if r.Store != "redis" {
		if v.given("revocation.redis") && !v.failedBelow("revocation.redis") {
			v.warn("revocation.redis", "revocation.redis is not used unless revocation.store is redis", "")
		}
		return
	}
	key := "revocation.redis"
	hasURL, hasAddresses := r.Redis.URL != "", len(r.Redis.Addresses) > 0
	switch {
	case hasURL && hasAddresses:
		v.bad(key+".addresses", "want either url or addresses", "")
	case !hasURL && !hasAddresses && !v.failedBelow(key):
		at := key
		if !v.given(key) {
			at = "revocation.store"
		}
		v.bad(at, "want revocation.redis.url or revocation.redis.addresses as well", "")
	case hasURL:
		v.redisURL(r.Redis)
	}
	v.redisAddresses(r.Redis.Addresses)
	if r.Redis.MasterName != "" && !hasAddresses {
		v.bad(key+".master_name", "want the Sentinels under addresses", "")
	}
	if r.Redis.Username != "" && r.Redis.Password == "" {
		v.bad(key+".username", "want revocation.redis.password as well", "")
	}
	if r.Redis.SentinelUsername != "" && r.Redis.SentinelPassword == "" {
		v.bad(key+".sentinel_username", "want revocation.redis.sentinel_password as well", "")
	}
	if r.Redis.SentinelPassword != "" && r.Redis.MasterName == "" {
		v.bad(key+".sentinel_password", "want revocation.redis.master_name as well", "")
	}
	// Braces are what a Cluster tells a key's place by.
	if p := r.Redis.Prefix; p == "" || len(p) > 100 || strings.Trim(p, pathLetters+":") != "" {
		v.bad(key+".prefix", "want 1 to 100 letters, digits and -._~:", "")
	}
}

func (v *validator) redisURL(r Redis) {
	key := "revocation.redis.url"
	want := "want a URL such as redis://localhost:6379/0, rediss://redis.example.com or unix:///run/redis.sock"
	u, err := url.Parse(r.URL)
	switch {
	case err != nil || u.Opaque != "" || u.Fragment != "":
		v.bad(key, want, "")
		return
	case u.Scheme == "unix":
		db := u.Query().Get("db")
		if u.Host != "" || !strings.HasPrefix(u.Path, "/") || strings.HasSuffix(u.Path, "/") ||
			u.RawQuery != "" && (u.RawQuery != "db="+db || !isDatabase(db)) {
			v.bad(key, want, "")
		}
	case u.Scheme == "redis" || u.Scheme == "rediss":
		port, err := strconv.ParseUint(u.Port(), 10, 16)
		if u.Hostname() == "" || u.Port() != "" && (err != nil || port == 0) || u.RawQuery != "" ||
			u.Path != "" && u.Path != "/" && !isDatabase(u.Path[1:]) {
			v.bad(key, want, "")
		}
	default:
		v.bad(key, want, "")
	}
	if u.User != nil && (r.Username != "" || r.Password != "") {
		v.bad(key, "want the password here or under password, not both", "")
	}
}

func isDatabase(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && strconv.FormatUint(n, 10) == s
}

func (v *validator) redisAddresses(list []string) {
	secure := func(a string) bool { return strings.HasPrefix(a, "rediss://") }
	for i, a := range list {
		host, port, ok := cutPort(strings.TrimPrefix(a, "rediss://"))
		n, err := strconv.ParseUint(port, 10, 16)
		key := fmt.Sprintf("revocation.redis.addresses[%d]", i)
		switch {
		case !ok || host == "" || err != nil || n == 0 || strings.ContainsAny(host, "/@?#"):
			v.bad(key, "want an address such as redis-1:6379, or rediss://redis-1:6379 for TLS", "")
		case secure(a) != secure(list[0]):
			v.bad(key, "want rediss:// for all addresses or for none", "")
		case slices.Index(list, a) != i:
			v.bad(key, "want each address once", "")
		}
	}
}
