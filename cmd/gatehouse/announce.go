package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"

	"gatehouse/config"
)

// announce says on standard output where the gateway is and, while it has no
// users, what to do next. Later starts are quiet about that.
func (s *server) announce(ctx context.Context, address net.Addr) {
	cfg := s.current.Load().cfg
	base := localURL(cfg, address)
	out := &strings.Builder{}
	defer func() { fmt.Fprint(s.app.stdout, out.String()) }()
	fmt.Fprintf(out, "Gatehouse listens on %s\n", base)
	if cfg.KeepsAccounts() {
		fmt.Fprintf(out, "  users sign in at   %s\n", cfg.PublicURL+endpointPath(cfg, "login"))
	}
	if cfg.Admin.Listen != "" {
		fmt.Fprintf(out, "  operators look at  http://%s/readyz and /metrics\n", reachable(cfg.Admin.Listen))
	}
	if !cfg.KeepsAccounts() {
		return
	}
	if _, _, err := s.stores.revocations.State(); err != nil {
		return // the database is away: nobody waits for it to be asked this
	}
	if empty, err := s.stores.db.Empty(ctx); err != nil || !empty {
		return
	}
	if cfg.Users.Registration != "open" {
		fmt.Fprintf(out, "\nNobody has an account yet. Make one with\n\n  gatehouse user add ann@example.com --config %s\n", shellQuote(cfg.Path))
		return
	}
	// An example that the password policy takes. The policy is not asked: that
	// would load its dictionaries, which no gateway needs that signs nobody up.
	email, password := "test@example.com", "correct-horse-battery-staple"
	if p := cfg.Users.Password; p.MinStrength == 0 && p.MinLength <= len("password123") {
		password = "password123"
	}
	body := fmt.Sprintf(`{"email":"%s","password":"%s"}`, email, password)
	const asJSON = "-H 'Content-Type: application/json'"
	fmt.Fprintf(out, `
Nobody has an account yet. Register, sign in, and call the app behind:

  curl %[1]s -d '%[2]s' %[3]s
  TOKEN=$(curl -s %[1]s -d '%[2]s' %[4]s | sed 's/.*"access_token": *"\([^"]*\)".*/\1/')
  curl -H "Authorization: Bearer $TOKEN" %[5]s

Routes and everything else are in %[6]s; a change is in force at once.
`, asJSON, body, base+endpointPath(cfg, "register"), base+endpointPath(cfg, "login"), base+"/", cfg.Path)
}

// endpointPath is where one of the gateway's own endpoints is: at the root if
// at_root has it.
func endpointPath(cfg *config.Config, name string) string {
	if slices.Contains(cfg.Endpoints.AtRoot, name) {
		return "/" + name
	}
	return cfg.Endpoints.Prefix + "/" + name
}

// localURL is how this machine reaches the public listener. A certificate is
// for the public name, so with TLS it is that.
func localURL(cfg *config.Config, address net.Addr) string {
	if cfg.TLS.CertFile != "" {
		return cfg.PublicURL
	}
	return "http://" + reachable(address.String())
}

// reachable is a listener's address as a client on this machine writes it.
func reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// shellQuote is s as one word of a shell command.
func shellQuote(s string) string {
	plain := func(r rune) bool {
		return r == '/' || r == '.' || r == '-' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
