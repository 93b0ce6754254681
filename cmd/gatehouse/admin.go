package main

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/pprof"
	"sync"
	"time"

	"gatehouse/authn"
	"gatehouse/config"
)

// readiness is the body of /readyz: "ready", "unready" or "draining", and why.
type readiness struct {
	Status        string              `json:"status"`
	Configuration configurationStatus `json:"configuration"`
	Database      componentStatus     `json:"database"`
	Revocation    revocationStatus    `json:"revocation"`
	Issuers       []issuerStatus      `json:"trusted_issuers,omitempty"` // those with a jwks_url
}

// componentStatus is "ok", or "failed" and the error; "none" where the
// configuration has no such thing.
type componentStatus struct {
	Status string `json:"status"`
	Error  string `json:"error,omitempty"`
}

// configurationStatus is "ok", or "refused" while the file says something that
// could not be put into use. The gateway is ready all the same, with what it
// had before.
type configurationStatus struct {
	Status   string    `json:"status"`
	File     string    `json:"file"`
	Loaded   time.Time `json:"loaded"` // what is in use
	Problems []string  `json:"problems,omitempty"`
}

type revocationStatus struct {
	componentStatus
	Entries  int       `json:"entries"`
	LastRead time.Time `json:"last_read,omitzero"`
}

// issuerStatus tells whether an issuer's keys could be had. The gateway is
// ready without: only that issuer's users have to wait.
type issuerStatus struct {
	componentStatus
	Issuer  string    `json:"issuer"`
	Keys    int       `json:"keys"`
	Fetched time.Time `json:"fetched,omitzero"`
}

func statusOf(err error) componentStatus {
	if err != nil {
		return componentStatus{Status: "failed", Error: err.Error()}
	}
	return componentStatus{Status: "ok"}
}

// A reloadState is what came of reading the configuration the last time.
type reloadState struct {
	mu   sync.Mutex
	list []config.Problem
}

func (s *reloadState) set(problems []config.Problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = problems
}

// problems is why the file is not in use; nil if it is.
func (s *reloadState) problems() []config.Problem {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list
}

// databaseTimeout is how long a database may take to answer at all.
const databaseTimeout = time.Second

// readiness asks everything that requests depend on.
func (s *server) readiness(ctx context.Context) readiness {
	g := s.current.Load()
	r := readiness{
		Status:        "ready",
		Configuration: configurationStatus{Status: "ok", File: g.cfg.Path, Loaded: g.loaded},
	}
	for _, p := range s.state.problems() {
		r.Configuration.Status = "refused"
		r.Configuration.Problems = append(r.Configuration.Problems, p.Error())
	}
	ctx, cancel := context.WithTimeout(ctx, databaseTimeout)
	defer cancel()
	databaseErr := s.stores.ping(ctx)
	r.Database = statusOf(databaseErr)
	if s.stores.db == nil {
		r.Database.Status = "none"
	}

	entries, lastRead, revocationErr := s.stores.revocations.State()
	r.Revocation = revocationStatus{statusOf(revocationErr), entries, lastRead}
	if !g.cfg.Revokes() {
		r.Revocation = revocationStatus{componentStatus: componentStatus{Status: "none"}}
	}
	for _, is := range g.accounts.issuers.State() {
		r.Issuers = append(r.Issuers, issuerStatus{statusOf(is.Err), is.Issuer, is.Keys, is.Fetched})
	}
	switch {
	case s.draining.Load():
		r.Status = "draining"
	case databaseErr != nil || revocationErr != nil:
		r.Status = "unready"
	}
	return r
}

// reportEvery is how soon the log says that something does not answer.
const reportEvery = time.Second

// report logs when something that requests depend on stops answering, and when
// it answers again, until ctx ends.
func (s *server) report(ctx context.Context) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	failing := map[string]string{}
	var counts authn.RevocationCounts
	var dropped int64
	slow := 0
	for {
		select {
		case <-tick.C:
			s.reportLosses(&counts)
			if now := s.lines.lost(); now > dropped {
				s.log.Warn("log lines dropped: nobody reads the log, or too slowly", "lines", now-dropped)
				dropped = now
			}
			s.reportChanges(failing, s.failures(ctx))
			s.reportCost(ctx, &slow)
		case <-ctx.Done():
			return
		}
	}
}

// reportCost logs that an account's password hash slows down all logins, and
// when none does any more. slow is the cost that was told of, 0 for none.
func (s *server) reportCost(ctx context.Context, slow *int) {
	if s.stores.db == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, databaseTimeout)
	defer cancel()
	highest, err := s.stores.db.HighestCost(ctx)
	if err != nil {
		return // failures has told
	}
	configured := s.current.Load().cfg.Users.BcryptCost
	if highest <= configured {
		highest = 0
	}
	switch {
	case highest == *slow:
		return
	case highest == 0:
		s.log.Info("logins are as fast as users.bcrypt_cost says", "bcrypt_cost", configured)
	default:
		s.log.Warn("a password hash of higher cost than users.bcrypt_cost slows down every login",
			"highest", highest, "bcrypt_cost", configured)
	}
	*slow = highest
}

// failures is what does not answer at the moment, and its error.
func (s *server) failures(ctx context.Context) map[string]string {
	failures := map[string]string{}
	ctx, cancel := context.WithTimeout(ctx, databaseTimeout)
	defer cancel()
	if err := s.stores.ping(ctx); err != nil {
		failures["database"] = err.Error()
	}
	// A log that is not settled answers: the gateway only waits for others.
	if _, _, err := s.stores.revocations.State(); err != nil && !errors.Is(err, authn.ErrLogUnsettled) {
		failures["revocation"] = err.Error()
	}
	for _, is := range s.current.Load().accounts.issuers.State() {
		if is.Err != nil {
			failures["issuer "+is.Issuer] = is.Err.Error()
		}
	}
	return failures
}

// reportChanges logs what is new in now and what has gone from failing, which
// it brings up to date.
func (s *server) reportChanges(failing, now map[string]string) {
	for what, err := range now {
		if failing[what] == "" {
			s.log.Error("does not answer", "what", what, "error", err)
		}
	}
	for what := range failing {
		if now[what] == "" {
			s.log.Info("answers again", "what", what)
		}
	}
	clear(failing)
	maps.Copy(failing, now)
}

// adminHandler serves operators. It holds no secret and changes nothing.
func (s *server) adminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		writeStatus(w, http.StatusOK, componentStatus{Status: "ok"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ready, code := s.readiness(r.Context()), http.StatusOK
		if ready.Status != "ready" {
			code = http.StatusServiceUnavailable
		}
		writeStatus(w, code, ready)
	})
	mux.Handle("GET /metrics", s.metrics.Handler())

	// Profiles show other processes' command lines and cost time: only where
	// admin.pprof says so, in the configuration that is in use at that moment.
	profiles := http.NewServeMux()
	profiles.HandleFunc("/debug/pprof/", pprof.Index)
	profiles.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	profiles.HandleFunc("/debug/pprof/profile", pprof.Profile)
	profiles.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	profiles.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("/debug/pprof/", func(w http.ResponseWriter, r *http.Request) {
		if !s.current.Load().cfg.Admin.Pprof {
			http.NotFound(w, r)
			return
		}
		profiles.ServeHTTP(w, r)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		mux.ServeHTTP(w, r)
	})
}

func writeStatus(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(body) // whoever asked has gone
}

// adminServer is the listener for operators. Few use it, so its limits are not
// configured.
func (s *server) adminServer() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:           s.adminHandler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		Protocols:         protocols,
		ErrorLog:          errorLog(s.log.Logger),

		DisableGeneralOptionsHandler: true,
	}
}
