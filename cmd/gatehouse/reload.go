package main

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"

	"gatehouse/authn"
	"gatehouse/authn/pages"
	"gatehouse/config"
)

// Sums are the contents of the files that a configuration is made of, by path.
// A file that cannot be read has the zero sum.
type sums map[string][sha256.Size]byte

func sumsOf(files []string) sums {
	all := make(sums, len(files))
	for _, file := range files {
		var sum [sha256.Size]byte
		if data, err := os.ReadFile(file); err == nil {
			sum = sha256.Sum256(data)
		}
		all[file] = sum
	}
	return all
}

// read loads the configuration, with the sums of the files that it is made of:
// those that loading reads as they were then, the others, which are read after
// this, as they are now. A change that comes in between then still counts as one.
func (s *server) read() (*config.Config, sums, error) {
	cfg, err := s.app.load()
	if err != nil {
		return nil, nil, err
	}
	s.lastRead.Store(cfg)
	made := sumsOf(filesOf(cfg))
	maps.Copy(made, cfg.Sums)
	return cfg, made, nil
}

// files are those to watch: of the configuration that was read last, whether it
// is in use or not, since mending one of them may be what makes it work.
func (s *server) files() []string { return filesOf(s.lastRead.Load()) }

// filesOf lists what cfg is made of: itself, what it names, and the generated
// signing keys, which `gatehouse key rotate` changes.
func filesOf(cfg *config.Config) []string {
	files := append([]string{absolute(cfg.Path)}, cfg.Files...)
	if len(cfg.Tokens.Keys) == 0 {
		keys, _ := filepath.Glob(filepath.Join(authn.KeyDir(cfg), "[^.]*")) // the pattern is well-formed
		files = append(files, keys...)
	}
	files = append(files, pages.Files(cfg)...)
	slices.Sort(files)
	return slices.Compact(files)
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// ask wants a reload. One that waits already will see everything that changed.
func (s *server) ask(why string) {
	if s.draining.Load() {
		return
	}
	select {
	case s.wanted <- why:
	default:
	}
}

// reloads carries out what was asked for, one after the other, until ctx ends,
// and then ends what the last generation does beside requests.
func (s *server) reloads(ctx context.Context) {
	for {
		select {
		case why := <-s.wanted:
			s.reload(why)
		case <-ctx.Done():
			s.current.Load().stop()
			return
		}
	}
}

// reload puts what the files say now into use, or keeps what is there and says
// why.
func (s *server) reload(why string) {
	began, old := time.Now(), s.current.Load()
	if maps.Equal(sumsOf(filesOf(old.cfg)), old.made) {
		s.lastRead.Store(old.cfg)
		if s.state.problems() != nil {
			s.log.Info("configuration is again the one in use", "cause", why)
		} else {
			s.log.Debug("configuration unchanged", "cause", why)
		}
		s.loaded(nil)
		return
	}
	cfg, made, err := s.read()
	var next *generation
	if err == nil {
		err = needsRestart(old.cfg, cfg)
	}
	if err == nil {
		next, err = s.build(cfg, made)
	}
	if err != nil {
		s.loaded(err)
		s.log.Error("configuration refused, the one in use stays", "cause", why)
		return
	}
	next.accounts.issuers.Adopt(old.accounts.issuers)
	s.use(next)
	old.stop()
	s.loaded(nil)
	s.log.Info("configuration reloaded", "cause", why, "file", cfg.Path, "routes", len(cfg.Routes), "took", time.Since(began))
	debug.FreeOSMemory() // what loading took, and the old configuration
}

// loaded notes how reading the configuration ended, and logs each problem.
func (s *server) loaded(err error) {
	problems := problemsIn(err)
	if err != nil && len(problems) == 0 {
		problems = []config.Problem{{Text: err.Error()}}
	}
	for _, p := range problems {
		s.log.LogAttrs(context.Background(), slog.LevelError, "configuration problem", problemAttrs("problem", p)...)
	}
	s.state.set(problems)
	s.metrics.Reloaded(err == nil, s.current.Load().loaded)
}

func problemAttrs(kind string, p config.Problem) []slog.Attr {
	attrs := []slog.Attr{slog.String("position", p.Pos.String()), slog.String(kind, p.Text)}
	if p.Hint != "" {
		attrs = append(attrs, slog.String("hint", p.Hint))
	}
	return attrs
}

// needsRestart names what cannot change while the gateway runs: where it
// listens and where it keeps what it must not lose.
func needsRestart(old, next *config.Config) error {
	var problems config.Problems
	for _, k := range []struct{ key, old, next string }{
		{"listen", old.Listen, next.Listen},
		{"admin.listen", old.Admin.Listen, next.Admin.Listen},
		{"data_dir", old.DataDir, next.DataDir},
		{"users.database", old.Users.Database, next.Users.Database}, // never shown, it may hold a password
		{"revocation.store", old.Revocation.Store, next.Revocation.Store},
		{"revocation.redis", redisIdentity(old), redisIdentity(next)},
	} {
		if k.old == k.next {
			continue
		}
		p := next.Problem(k.key, "%s cannot change while the gateway runs", k.key)
		p.Hint = "restart it, or put the old value back"
		problems = append(problems, p)
	}
	if len(problems) == 0 {
		return nil
	}
	return problems
}

// watch asks for a reload whenever a file of the configuration changes. The
// first time it asks at once, for what changed since the start.
func (s *server) watch(ctx context.Context) {
	s.ask("changed since the start")
	if err := config.Watch(ctx, s.files, func() { s.ask("file changed") }); err != nil {
		s.log.Debug("the system told nothing of changed files, they were looked at every few seconds", "error", err)
	}
}
