package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"gatehouse/authn"
	"gatehouse/config"
	"gatehouse/proxy"
)

func (a *app) serveCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the gateway (the default command)",
		Long: `Run the gateway.

SIGTERM and SIGINT end it: it accepts no more connections, lets requests finish
for shutdown_grace, then closes what is left. A second one ends it at once.
SIGHUP, or a change of a file of the configuration, reloads; a configuration
that does not load or fails its own tests leaves the running one in place.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			signals := make(chan os.Signal, 8)
			signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
			defer signal.Stop(signals)
			// Without this a log collector that ends would end the gateway with it.
			signal.Ignore(syscall.SIGPIPE)
			return a.serve(cmd.Context(), signals)
		},
	}
}

// A server is a gateway that runs: what stays, and the generation in use.
type server struct {
	app     *app
	log     *logging
	lines   *logQueue // where log goes
	stores  *stores
	metrics *proxy.Metrics
	gateway *proxy.Gateway
	front   *front

	current  atomic.Pointer[generation]
	lastRead atomic.Pointer[config.Config] // not always the one in use
	wanted   chan string                   // a reload, and why
	state    reloadState
	draining atomic.Bool
}

// serve runs the gateway until a signal or an error ends it.
func (a *app) serve(ctx context.Context, signals <-chan os.Signal) error {
	v := thisVersion()
	lines := newLogQueue(a.stderr)
	defer lines.close()
	s := &server{app: a, log: newLogging(lines), lines: lines, metrics: proxy.NewMetrics(v.Version, v.Commit), wanted: make(chan string, 1)}
	s.metrics.LogLinesDropped(lines.lost)

	// Load.
	a.startMemory()
	a.startProcessors()
	cfg, made, err := s.read()
	if err != nil {
		return err
	}
	s.log.use(cfg.Log)
	redirectStandardLog(s.log.Logger)

	// Open.
	if s.stores, err = openStoresToServe(ctx, cfg); err != nil {
		return err
	}
	defer s.stores.Close()
	beside, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	running.Go(func() { _ = s.stores.revocations.Follow(beside) }) // its State is in /readyz
	s.metrics.RevocationLog(s.stores.revocations)
	s.metrics.Revocations(func() int { entries, _, _ := s.stores.revocations.State(); return entries })

	// Build.
	watch := authn.NewWatch(s.stores.revocations, s.alive, time.Now)
	running.Go(func() { _ = watch.Run(beside) })
	pace := &proxy.Pace{Metrics: s.metrics}
	s.gateway = proxy.New(proxy.Options{Log: s.log.Logger, Metrics: s.metrics, Pace: pace, Watch: watch})
	defer s.gateway.Close()
	running.Go(func() { s.gateway.Run(beside) })
	first, err := s.build(cfg, made)
	if err != nil {
		return err
	}

	// Listen.
	public, err := listenToPublic(cfg)
	if err != nil {
		return err
	}
	defer public.Close()
	var admin *net.TCPListener
	if cfg.Admin.Listen != "" {
		if admin, err = listen(cfg, "admin.listen", cfg.Admin.Listen); err != nil {
			return err
		}
		defer admin.Close()
	}

	// Serve.
	s.front = newFront(public, s.gateway, &proxy.Guard{Log: s.log.Logger, Metrics: s.metrics, Pace: pace})
	defer s.front.close()
	s.metrics.ClientConnections(s.front.gate.counts, s.front.gate.closed.Load)
	s.use(first)
	s.loaded(nil)
	running.Go(func() { s.reloads(beside) })
	running.Go(func() { s.watch(beside) })
	running.Go(func() { s.report(beside) })
	running.Go(func() { s.warnOfRedis(beside) })
	failed := make(chan error, 2)
	go func() { failed <- s.front.run() }()
	if admin != nil {
		server := s.adminServer()
		defer server.Close()
		go func() { failed <- fmt.Errorf("admin listener: %w", server.Serve(admin)) }()
	}
	s.announce(ctx, public.Addr())
	running.Go(func() { a.tuneMemory(beside, time.Second) })

	// Reload, until it is time to go.
	for {
		select {
		case sig := <-signals:
			if sig == syscall.SIGHUP {
				s.ask("SIGHUP")
				continue
			}
			s.log.Info("draining", "cause", sig.String(), "grace", s.current.Load().cfg.ShutdownGrace)
			return s.drain(signals)
		case <-ctx.Done():
			return s.drain(signals)
		case err := <-failed:
			return err
		}
	}
}

// use puts a generation in charge of what comes from now on. Requests in flight
// keep the one that they began with.
func (s *server) use(g *generation) {
	s.log.use(g.cfg.Log)
	for _, w := range append(g.accounts.warnings(), expiry(g.cfg, g.certificates, g.loaded)...) {
		s.log.LogAttrs(context.Background(), slog.LevelWarn, "configuration warning", problemAttrs("warning", w)...)
	}
	s.stores.use(g.accounts)
	s.stores.revocations.Use(revocationPolicy(g.cfg))
	g.start()
	s.current.Store(g)
	s.gateway.Use(g.snapshot)
	clients, upstreams := connections(g.cfg.Limits.Connections, openFiles())
	s.gateway.LimitConnections(upstreams)
	s.front.use(g.cfg, clients, g.certificates)
	g.cfg.Forget() // nothing more is said about the file
}

// alive asks for a stream's session as the configuration in use says: streams
// stay when that changes.
func (s *server) alive(ctx context.Context, id *authn.Identity) (time.Time, error) {
	return s.current.Load().accounts.service.Alive(ctx, id)
}

// drain lets what is in flight finish and reports whether a second signal cut
// that short.
func (s *server) drain(signals <-chan os.Signal) error {
	s.draining.Store(true)
	grace, cancel := context.WithTimeout(context.Background(), s.current.Load().cfg.ShutdownGrace)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.front.drain(grace) }()
	for {
		select {
		case err := <-done:
			if err != nil {
				s.log.Warn("closing what is left", "cause", err.Error())
			}
			s.front.close()
			s.log.Info("stopped")
			return nil
		case sig := <-signals:
			if sig != syscall.SIGHUP {
				return fmt.Errorf("a second signal (%s) ended it at once", sig)
			}
		}
	}
}

// audit records what happened to accounts and sessions.
func (s *server) audit(ctx context.Context, e authn.Event) {
	s.metrics.Event(e.Name, e.Outcome)
	s.log.LogAttrs(ctx, slog.LevelInfo, "audit", auditAttrs(ctx, e)...)
}
