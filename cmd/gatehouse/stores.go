package main

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gatehouse/authn"
	"gatehouse/authn/redisstore"
	"gatehouse/authn/sqlstore"
	"gatehouse/config"
)

// stores hold what outlives a configuration: accounts, sessions and what was
// revoked. A reload goes on with the same ones.
type stores struct {
	db          *sqlstore.Store // nil with users.database none
	revocations *authn.RevocationList
	redis       *redisstore.Log // nil: revocation.store is embedded
	counters    counters        // of the configuration in use
}

// counters go on counting over a reload, unless it changes what they count by.
type counters struct {
	throttle       *authn.Throttle
	throttleConfig config.Throttle
	hasher         *authn.Hasher
	bcryptCost     int
}

// next is what cfg counts with: what is counted with now, where cfg does not
// want another.
func (s *stores) next(cfg *config.Config) counters {
	c := s.counters
	if t := cfg.Users.Throttle; c.throttle == nil || c.throttleConfig != t {
		c.throttle, c.throttleConfig = authn.NewThrottle(t.Attempts, t.Window, time.Now), t
		if s.redis != nil {
			c.throttle.Share(s.redis.Throttle())
		}
	}
	if cost := cfg.Users.BcryptCost; c.hasher == nil || c.bcryptCost != cost {
		c.hasher, c.bcryptCost = authn.NewHasher(cost), cost
	}
	return c
}

// openStores opens what cfg names for a command or a gateway. Nothing of the
// revocations is read yet: making one needs no list of the others.
func openStores(ctx context.Context, cfg *config.Config) (*stores, error) {
	if !cfg.KeepsAccounts() {
		return newStores(cfg, nil)
	}
	url, err := databaseURL(cfg)
	if err != nil {
		return nil, err
	}
	db, err := sqlstore.Open(ctx, url)
	if err != nil {
		return nil, err
	}
	return newStores(cfg, db)
}

// serverWait is how long the start waits for a server. One that is well answers
// before the first request comes; for another nobody has to wait to be told so.
const serverWait = 300 * time.Millisecond

// openStoresToServe is openStores for a gateway, and reads every revocation, so
// that none is forgotten by the first request. It does not fail because a server
// is away: the gateway refuses what it cannot decide, says why in /readyz, and
// comes good by itself.
func openStoresToServe(ctx context.Context, cfg *config.Config) (*stores, error) {
	url, err := databaseURL(cfg)
	if err != nil {
		return nil, err
	}
	onServer := url != "" && !strings.HasPrefix(url, "sqlite:")
	var s *stores
	if onServer {
		var db *sqlstore.Store
		if db, err = sqlstore.OpenLater(ctx, url, serverWait); err == nil {
			s, err = newStores(cfg, db)
		}
	} else {
		s, err = openStores(ctx, cfg)
	}
	if err != nil {
		return nil, err
	}
	if onServer || s.redis != nil {
		ctx, cancel := context.WithTimeout(ctx, serverWait)
		defer cancel()
		_ = s.revocations.Load(ctx) // whoever follows the list goes on with it
		return s, nil
	}
	if err := s.revocations.Load(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// ping says why the database does not answer; without one there is no why.
func (s *stores) ping(ctx context.Context) error {
	if s.db == nil {
		return nil
	}
	return s.db.Ping(ctx)
}

func (s *stores) Close() error {
	var err error
	if s.redis != nil {
		err = s.redis.Close()
	}
	if s.db != nil {
		err = errors.Join(err, s.db.Close())
	}
	return err
}

// databaseURL is users.database as sqlstore wants it; "" for none. It asks no
// server.
func databaseURL(cfg *config.Config) (string, error) {
	if !cfg.KeepsAccounts() {
		return "", nil
	}
	url := cfg.Users.Database
	if url == "sqlite" {
		url = "sqlite:" + filepath.Join(cfg.DataDir, "gatehouse.db")
	}
	if err := sqlstore.CheckURL(url); err != nil {
		return "", cfg.Problem("users.database", "users.database: %v", err)
	}
	return url, nil
}

// accounts are the stores as one configuration uses them: its keys, its policy,
// the issuers that it trusts.
type accounts struct {
	cfg      *config.Config
	store    *sqlstore.Store // for what only the commands do: List, DeleteUser; nil with users.database none
	service  *authn.Service
	tokens   *authn.Tokens
	issuers  *authn.TrustedIssuers // nil in openAccounts and openIssuer, like verifier
	verifier authn.Verifier        // every issuer that is trusted, then the revocations
	verified *authn.Verified       // the same for the requests that are forwarded, with a memory; nil as well
	counters counters
	close    func() error
}

func (acc *accounts) Close() error { return acc.close() }

// warnings are about what is allowed but perhaps not meant.
func (acc *accounts) warnings() []config.Problem {
	return slices.Concat(acc.cfg.Warnings, acc.tokens.Keys.Warnings(), acc.issuers.Warnings())
}

// openAccounts loads the configuration and opens the accounts that it names,
// for commands that work on them beside a gateway that may be running. There
// are no keys in it, nor a verifier: `user list` must not make a key, and works
// where one cannot be read.
func (a *app) openAccounts(ctx context.Context) (*accounts, error) {
	return a.openAs(ctx, func(s *stores, cfg *config.Config) (*accounts, error) {
		if err := wantAccounts(cfg); err != nil {
			return nil, err
		}
		return s.withKeys(cfg, &authn.KeySet{}), nil
	})
}

// openIssuer is openAccounts for commands that issue tokens.
func (a *app) openIssuer(ctx context.Context) (*accounts, error) {
	return a.openAs(ctx, func(s *stores, cfg *config.Config) (*accounts, error) {
		if err := wantAccounts(cfg); err != nil {
			return nil, err
		}
		keys, err := authn.LoadKeys(cfg)
		if err != nil {
			return nil, err
		}
		return s.withKeys(cfg, keys), nil
	})
}

// wantAccounts refuses to work on accounts where there are none.
func wantAccounts(cfg *config.Config) error {
	if cfg.KeepsAccounts() {
		return nil
	}
	p := cfg.Problem("users.database", "users.database is none: there are no accounts here")
	p.Hint = "run this with the configuration of the gateway that keeps them"
	return p
}

// openVerifier is openAccounts for commands that verify tokens as a gateway
// would.
func (a *app) openVerifier(ctx context.Context) (*accounts, error) {
	return a.openAs(ctx, func(s *stores, cfg *config.Config) (*accounts, error) {
		keys, err := authn.ReadKeys(cfg)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, commandPatience)
		defer cancel()
		if err := s.revocations.Load(ctx); err != nil {
			return nil, err
		}
		return s.verifying(cfg, keys)
	})
}

func (a *app) openAs(ctx context.Context, build func(*stores, *config.Config) (*accounts, error)) (*accounts, error) {
	cfg, err := a.load()
	if err != nil {
		return nil, err
	}
	s, err := openStores(ctx, cfg)
	if err != nil {
		return nil, err
	}
	acc, err := build(s, cfg)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	acc.service.Audit = a.audit(cfg)
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
	return s.verifying(cfg, keys)
}

// verifying is withKeys that verifies tokens as well: those of keys and those of
// the trusted issuers.
func (s *stores) verifying(cfg *config.Config, keys *authn.KeySet) (*accounts, error) {
	issuers, err := authn.NewTrustedIssuers(cfg, time.Now)
	if err != nil {
		return nil, err
	}
	acc := s.withKeys(cfg, keys)
	acc.issuers = issuers
	acc.verifier = authn.Join([]authn.Verifier{acc.tokens, issuers}, s.revocations.Check)
	acc.verified = authn.NewVerified(authn.VerifiedOptions{
		Tokens: acc.tokens, Issuers: issuers, Checks: []authn.Check{s.revocations.Check}, Claims: cfg.ClaimNames(),
		Bytes: verifiedBytes(),
	})
	return acc, nil
}

// withKeys makes the service that cfg describes, with keys for its tokens.
func (s *stores) withKeys(cfg *config.Config, keys *authn.KeySet) *accounts {
	counters := s.next(cfg)
	tokens := &authn.Tokens{
		Keys:     keys,
		Issuer:   cfg.Tokens.Issuer,
		Audience: cfg.Tokens.Audience,
		TTL:      cfg.Tokens.AccessTTL,
		Leeway:   cfg.Tokens.Leeway,
		Now:      time.Now,
	}
	service := &authn.Service{
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
	if s.db != nil {
		service.Users, service.Sessions = s.db, s.db
		tokens.RolesOf = service.RolesOf
	}
	return &accounts{
		cfg:      cfg,
		store:    s.db,
		service:  service,
		tokens:   tokens,
		counters: counters,
		close:    s.Close,
	}
}
