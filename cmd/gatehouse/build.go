package main

import (
	"context"
	"crypto/tls"
	"maps"
	"sync"
	"time"

	"gatehouse/authn/endpoints"
	"gatehouse/authn/pages"
	"gatehouse/config"
	"gatehouse/proxy"
)

// A generation is one configuration, compiled: what a reload swaps. Nothing of
// it runs before start.
type generation struct {
	cfg          *config.Config
	made         sums // of the files that it was read from
	loaded       time.Time
	accounts     *accounts
	certificates *tls.Config // nil: plain HTTP
	snapshot     *proxy.Snapshot

	cancel     context.CancelFunc
	background sync.WaitGroup
}

// build compiles cfg and runs its tests. It reaches no one, and what is in use
// does not notice.
func (s *server) build(cfg *config.Config, made sums) (*generation, error) {
	g := &generation{cfg: cfg, made: made, loaded: time.Now()}
	var err error
	if g.accounts, err = s.stores.accounts(cfg); err != nil {
		return nil, err
	}
	g.accounts.service.Audit = s.audit
	// A key that was generated just now is part of what this is made of, not a
	// change of it.
	for _, key := range g.accounts.tokens.Keys.List(g.loaded) {
		if _, known := made[key.File]; !known && key.File != "" {
			maps.Copy(made, sumsOf([]string{key.File}))
		}
	}
	if g.certificates, err = certificates(cfg); err != nil {
		return nil, err
	}
	shown, err := pages.New(cfg)
	if err != nil {
		return nil, err
	}
	own, err := endpoints.New(endpoints.Options{
		Config:   cfg,
		Pages:    shown,
		Service:  g.accounts.service,
		Verifier: g.accounts.verifier,
		JWKS:     func() []byte { return g.accounts.tokens.Keys.JWKS(time.Now()) },
	})
	if err != nil {
		return nil, err
	}
	options := proxy.SnapshotOptions{
		Config:    cfg,
		Endpoints: own,
		Pages:     shown,
		Verifier:  g.accounts.verified,
		Assert:    g.accounts.tokens.Assert,
	}
	if cfg.KeepsAccounts() {
		options.Renewer = own
	}
	// The tests have a snapshot of their own, so that a configuration that
	// fails them leaves nothing behind in the gateway.
	if len(cfg.Tests) > 0 {
		trial, err := proxy.NewSnapshot(options)
		if err != nil {
			return nil, err
		}
		if failed := runTests(cfg, trial); len(failed) > 0 {
			return nil, config.Problems(failed)
		}
	}
	if g.snapshot, err = s.gateway.NewSnapshot(options); err != nil {
		return nil, err
	}
	return g, nil
}

// start runs what a configuration needs besides requests: its issuers' keys
// kept current, ended tokens forgotten.
func (g *generation) start() {
	var ctx context.Context
	ctx, g.cancel = context.WithCancel(context.Background())
	g.background.Go(func() { g.accounts.issuers.Start(ctx) })
	g.background.Go(func() { g.accounts.verified.Run(ctx) })
}

// stop ends what start began. Requests that hold the generation can go on.
func (g *generation) stop() {
	g.cancel()
	g.background.Wait()
}
