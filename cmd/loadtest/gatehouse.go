package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A variant is one way to run Gatehouse. What it does not say is: 100 routes,
// identity headers, metrics, no access log, no accounts.
type variant struct {
	name      string
	main      bool
	algorithm string
	hosts     int    // routes are spread over so many; 0: none is named
	routes    int    // in all; 0: 100
	users     string // users.database; "": none
	redis     string // URL; "": no revocations
	prefix    string // of the keys in Redis
	strict    bool
	accessLog bool
}

// gatehouses builds Gatehouse and returns its variants, each with every binary
// that was named instead.
func (b *bench) gatehouses(ctx context.Context) ([]*contender, error) {
	var binaries []string
	for name := range strings.SplitSeq(b.gatehouse, ",") {
		if name == "" {
			continue
		}
		path, err := filepath.Abs(name)
		if err != nil {
			return nil, err
		}
		binaries = append(binaries, path)
	}
	if binaries == nil {
		binary, err := b.build(ctx)
		if err != nil {
			return nil, err
		}
		binaries = []string{binary}
	}
	variants := []variant{
		{name: "Gatehouse HS256", main: true, algorithm: "HS256"},
		{name: "Gatehouse RS256", main: true, algorithm: "RS256"},
		{name: "Gatehouse ES256", main: true, algorithm: "ES256"},
		{name: "Gatehouse ES256, access log", main: true, algorithm: "ES256", accessLog: true},
		{name: "Gatehouse ES256, SQLite accounts", algorithm: "ES256", users: "sqlite"},
		{name: "Gatehouse ES256, 10,000 routes on 1,000 hosts", algorithm: "ES256", hosts: 1000, routes: 10_000},
	}
	r, err := b.startRedis(ctx)
	if err != nil {
		return nil, err
	}
	if r != nil {
		variants = append(variants,
			variant{name: "Gatehouse ES256, Redis", algorithm: "ES256", redis: r.url, prefix: "few"},
			variant{name: "Gatehouse ES256, Redis, " + thousands(b.revoked) + " revoked", algorithm: "ES256", redis: r.url, prefix: "many"},
			variant{name: "Gatehouse ES256, strict Redis", algorithm: "ES256", redis: r.url, prefix: "few", strict: true})
	} else {
		fmt.Fprintln(b.log, "redis-server is not here: nothing is measured with revocations in Redis")
	}
	var all []*contender
	for _, v := range variants {
		for i, binary := range binaries {
			c, err := b.gatehouseOf(binary, v)
			if err != nil {
				return nil, err
			}
			if i > 0 {
				c.name += ", " + filepath.Base(binary)
			}
			if v.prefix == "many" && i == 0 {
				c.prepare = func(ctx context.Context) error { return r.revoke(ctx, v.prefix, b.revoked) }
			}
			all = append(all, c)
		}
	}
	return all, nil
}

func (b *bench) build(ctx context.Context) (binary string, err error) {
	binary = filepath.Join(b.dir, "gatehouse")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "./cmd/gatehouse")
	cmd.Dir, cmd.Env = b.root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build ./cmd/gatehouse: %w\n%s", err, out)
	}
	return binary, nil
}

func (b *bench) gatehouseOf(binary string, v variant) (*contender, error) {
	token, err := b.keys.token(v.algorithm, false)
	if err != nil {
		return nil, err
	}
	forged, err := b.keys.token(v.algorithm, true)
	if err != nil {
		return nil, err
	}
	admin, err := freeAddress()
	if err != nil {
		return nil, err
	}
	c := &contender{name: v.name, main: v.main, path: "/app7/items/17", token: token, forged: forged, profile: admin}
	c.command = func(address string) (string, []string, error) {
		dir, err := os.MkdirTemp(b.dir, "gatehouse-")
		if err != nil {
			return "", nil, err
		}
		file := filepath.Join(dir, "gateway.yaml")
		return binary, []string{"serve", "--config", file}, os.WriteFile(file, []byte(b.yaml(v, address, admin)), 0o600)
	}
	return c, nil
}

// yaml is the configuration of a variant.
func (b *bench) yaml(v variant, address, admin string) string {
	var y strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&y, format+"\n", args...) }
	line("listen: %s", address)
	line("admin: {listen: %q, pprof: true}", admin)
	line("log: {access: %v, level: %s}", v.accessLog, map[bool]string{true: "info", false: "error"}[v.accessLog])
	users := v.users
	if users == "" {
		users = "none"
	}
	line("users: {database: %s}", users)
	if users == "none" {
		line("tokens: {issuer: %q, audience: %s, keys: [%s]}", issuer, audience, b.key(v.algorithm))
	} else {
		// Its own keys sign; ours are those of somebody else.
		line("trusted_issuers: [{issuer: %q, audiences: [%s], algorithms: [%s], jwks_file: %q}]", issuer, audience, v.algorithm, b.keys.jwksFile())
	}
	if v.redis != "" {
		consistency := "fast"
		if v.strict {
			consistency = "strict"
		}
		line("revocation: {store: redis, consistency: %s, redis: {url: %q, prefix: %s}}", consistency, v.redis, v.prefix)
	}
	line("routes:")
	routes, hosts := max(v.routes, 100), max(v.hosts, 1)
	for h := range hosts {
		host := ""
		if v.hosts > 0 {
			host = fmt.Sprintf("host: h%d.example, ", h)
			if h == 0 {
				host = "host: 127.0.0.1, " // the one that is asked for
			}
		}
		for i := range routes / hosts {
			access := "" // the file may have a megabyte
			if i == 7 {
				access = ", access: {roles: [" + role + "]}"
			}
			line(" - {%spath: /app%d, upstream: %q%s}", host, i, b.upstream, access)
		}
	}
	return y.String()
}

func (b *bench) key(algorithm string) string {
	if algorithm == "HS256" {
		return fmt.Sprintf("{id: HS256, algorithm: HS256, secret: %s}", b.keys.secret)
	}
	return fmt.Sprintf("{id: %s, algorithm: %s, private_key_file: %q}", algorithm, algorithm, b.keys.privateFile(algorithm))
}

// thousands is n with commas.
func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
