package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gatehouse/authn"
	"gatehouse/authn/sqlstore"
	"gatehouse/config"
)

// stores hold what outlives a configuration: accounts, sessions and what was
// revoked. A reload goes on with the same ones.
type stores struct {
	db          *sqlstore.Store
	revocations *authn.RevocationList
	counters    counters // of the configuration in use
}

// counters go on counting over a reload, unless it changes what they count by.
type counters struct {
	throttle       *authn.Throttle
	throttleConfig config.Throttle
	hasher         *authn.Hasher
	bcryptCost     int
}

// next is what cfg counts with: c, where cfg does not want another.
func (c counters) next(cfg *config.Config) counters {
	if t := cfg.Users.Throttle; c.throttle == nil || c.throttleConfig != t {
		c.throttle, c.throttleConfig = authn.NewThrottle(t.Attempts, t.Window, time.Now), t
	}
	if cost := cfg.Users.BcryptCost; c.hasher == nil || c.bcryptCost != cost {
		c.hasher, c.bcryptCost = authn.NewHasher(cost), cost
	}
	return c
}

// openStores opens the databases that cfg names and reads every revocation, so
// that none is forgotten by the first request.
func openStores(ctx context.Context, cfg *config.Config) (*stores, error) {
	url, err := databaseURL(cfg)
	if err != nil {
		return nil, err
	}
	db, err := sqlstore.Open(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("open users database: %w", err)
	}
	s := &stores{db: db, revocations: authn.NewRevocationList(db, time.Now)}
	if err := s.revocations.Load(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("read revocations: %w", err), db.Close())
	}
	return s, nil
}

func (s *stores) Close() error { return s.db.Close() }

// databaseURL is users.database as sqlstore.Open wants it.
func databaseURL(cfg *config.Config) (string, error) {
	path, isSQLite := strings.CutPrefix(cfg.Users.Database, "sqlite:")
	switch {
	case cfg.Users.Database == "sqlite":
		path = filepath.Join(cfg.DataDir, "gatehouse.db")
	case !isSQLite || path == "":
		return "", cfg.Problem("users.database", "users.database %q: want sqlite or sqlite:PATH", cfg.Users.Database)
	case !filepath.IsAbs(path):
		path = filepath.Join(filepath.Dir(cfg.Path), path)
	}
	return "sqlite:" + path, nil
}

// accounts are the stores as one configuration uses them: its keys, its policy,
// the issuers that it trusts.
type accounts struct {
	cfg      *config.Config
	store    *sqlstore.Store // for what only the commands do: List, DeleteUser
	service  *authn.Service
	tokens   *authn.Tokens
	issuers  *authn.TrustedIssuers
	verifier authn.Verifier // every issuer that is trusted, then the revocations
	counters counters
	close    func() error
}

func (acc *accounts) Close() error { return acc.close() }

// warnings are about what is allowed but perhaps not meant.
func (acc *accounts) warnings() []config.Problem {
	return slices.Concat(acc.cfg.Warnings, acc.tokens.Keys.Warnings(), acc.issuers.Warnings())
}

// openAccounts loads the configuration and opens what it names, for commands
// that work on accounts beside a gateway that may be running.
func (a *app) openAccounts(ctx context.Context) (*accounts, error) {
	cfg, err := a.load()
	if err != nil {
		return nil, err
	}
	s, err := openStores(ctx, cfg)
	if err != nil {
		return nil, err
	}
	acc, err := s.accounts(cfg)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return acc, nil
}

// use notes that acc is in charge. Until then nothing of it is kept: a
// configuration that is refused must not forget who is throttled.
func (s *stores) use(acc *accounts) { s.counters = acc.counters }

// accounts makes the service and the verifier that cfg describes. It starts
// nothing and reaches no one.
func (s *stores) accounts(cfg *config.Config) (*accounts, error) {
	keys, err := authn.LoadKeys(cfg)
	if err != nil {
		return nil, err
	}
	issuers, err := authn.NewTrustedIssuers(cfg, time.Now)
	if err != nil {
		return nil, err
	}
	counters := s.counters.next(cfg)
	tokens := &authn.Tokens{
		Keys:     keys,
		Issuer:   cfg.Tokens.Issuer,
		Audience: cfg.Tokens.Audience,
		TTL:      cfg.Tokens.AccessTTL,
		Leeway:   cfg.Tokens.Leeway,
		Now:      time.Now,
	}
	service := &authn.Service{
		Users:            s.db,
		Sessions:         s.db,
		Revocations:      s.revocations,
		Tokens:           tokens,
		Hasher:           counters.hasher,
		Policy:           authn.PasswordPolicy{MinLength: cfg.Users.Password.MinLength, MinStrength: cfg.Users.Password.MinStrength},
		Throttle:         counters.throttle,
		RegistrationOpen: cfg.Users.Registration == "open",
		DefaultRoles:     cfg.Users.DefaultRoles,
		RefreshTTL:       cfg.Tokens.RefreshTTL,
		RefreshGrace:     cfg.Tokens.RefreshGrace,
		Now:              time.Now,
	}
	return &accounts{
		cfg:      cfg,
		store:    s.db,
		service:  service,
		tokens:   tokens,
		issuers:  issuers,
		verifier: authn.Join([]authn.Verifier{tokens, issuers}, s.revocations.Check),
		counters: counters,
		close:    s.Close,
	}, nil
}
