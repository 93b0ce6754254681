package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"gatehouse/authn"
	"gatehouse/authn/redisstore"
	"gatehouse/authn/sqlstore"
	"gatehouse/config"
)

// newStores has the revocations where revocation.store says: with the accounts,
// which are nil where there are none, or in Redis, which may be away for now.
// It closes db if that cannot be.
func newStores(cfg *config.Config, db *sqlstore.Store) (*stores, error) {
	s := &stores{db: db}
	var log authn.RevocationLog = authn.NoLog{}
	switch {
	case cfg.Revocation.Store == "redis":
		r := cfg.Revocation.Redis
		var err error
		s.redis, err = redisstore.New(redisstore.Options{
			URL: r.URL, Addresses: r.Addresses, MasterName: r.MasterName,
			Username: r.Username, Password: string(r.Password),
			SentinelUsername: r.SentinelUsername, SentinelPassword: string(r.SentinelPassword), Prefix: r.Prefix,
		})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open revocation store: %w", err), s.Close())
		}
		log = s.redis
	case db != nil:
		log = db
	}
	s.revocations = authn.NewRevocationList(log, time.Now)
	return s, nil
}

// commandPatience is how long a command waits for the revocations.
const commandPatience = 20 * time.Second

func revocationPolicy(cfg *config.Config) authn.RevocationPolicy {
	return authn.RevocationPolicy{
		Strict:       cfg.Revocation.Consistency == "strict",
		MaxStaleness: cfg.Revocation.MaxStaleness,
		AllowStale:   cfg.Revocation.OnStale == "allow",
	}
}

// redisIdentity is everything of revocation.redis. It is compared, never shown.
func redisIdentity(cfg *config.Config) string {
	r := cfg.Revocation.Redis
	return fmt.Sprintf("%q", []string{r.URL, strings.Join(r.Addresses, " "), r.MasterName, r.Username, string(r.Password),
		r.SentinelUsername, string(r.SentinelPassword), r.Prefix})
}

// reportLosses logs that the revocation store had lost something, once each
// time, and brings seen up to date.
func (s *server) reportLosses(seen *authn.RevocationCounts) {
	now := s.stores.revocations.Counts()
	if now.Losses > seen.Losses || now.PutBack > seen.PutBack {
		s.log.LogAttrs(context.Background(), slog.LevelWarn, "revocation store had a gap and was read again",
			slog.Uint64("losses", now.Losses-seen.Losses), slog.Uint64("put_back", now.PutBack-seen.PutBack))
	}
	*seen = now
}

// warnOfRedis says how the server is set up badly, as soon as it answers.
func (s *server) warnOfRedis(ctx context.Context) {
	if s.stores.redis == nil {
		return
	}
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		warnings, err := s.stores.redis.Warnings(ctx)
		if err == nil {
			for _, w := range warnings {
				s.log.Warn("revocation store warning", "warning", w)
			}
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}
