package pages

import (
	"slices"

	"gatehouse/config"
)

// Links are the paths that pages lead to: at the root where an endpoint is
// served there, "" where it is not served at all.
type Links struct{ Home, Login, Register, Logout, Password, Account string }

func linksOf(cfg *config.Config) Links {
	at := func(name string) string {
		if slices.Contains(cfg.Endpoints.AtRoot, name) {
			return "/" + name
		}
		return cfg.Endpoints.Prefix + "/" + name
	}
	l := Links{Home: "/"}
	if cfg.KeepsAccounts() {
		l.Login, l.Register, l.Password, l.Account = at("login"), at("register"), at("password"), at("account")
	}
	if cfg.Revokes() {
		l.Logout = at("logout")
	}
	return l
}

// Links are the paths that pages lead to.
func (s *Set) Links() Links { return s.links }
