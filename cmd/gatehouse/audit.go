package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"time"

	"gatehouse/authn"
	"gatehouse/config"
)

// auditAttrs are what the log and the audit file say of an event.
func auditAttrs(ctx context.Context, e authn.Event) []slog.Attr {
	attrs := []slog.Attr{slog.String("event", e.Name), slog.String("outcome", e.Outcome)}
	for _, a := range []struct{ key, value string }{
		{"request_id", authn.CallerOf(ctx).RequestID},
		{"user", e.UserID},
		{"session", e.SessionID},
		{"cause", e.Cause},
	} {
		if a.value != "" {
			attrs = append(attrs, slog.String(a.key, a.value))
		}
	}
	if e.Address.IsValid() {
		attrs = append(attrs, slog.String("client", e.Address.String()))
	}
	return attrs
}

// auditFile, in data_dir, is where commands record what they do to accounts.
// Their standard error is somebody's terminal and gone with it.
const auditFile = "audit.log"

// audit records in the audit file what a command does, and who ran it.
func (a *app) audit(cfg *config.Config) func(context.Context, authn.Event) {
	by := a.operator()
	return func(ctx context.Context, e authn.Event) {
		attrs := append(auditAttrs(ctx, e), slog.String("by", by))
		if err := appendAudit(ctx, cfg, attrs); err != nil {
			// What was done is done: the command goes on.
			fmt.Fprintf(a.stderr, "gatehouse: not in the audit file: %v\n", err)
		}
	}
}

func appendAudit(ctx context.Context, cfg *config.Config, attrs []slog.Attr) (err error) {
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(cfg.DataDir, auditFile), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	log := newLogging(f)
	log.use(config.Log{Level: "info", Format: cfg.Log.Format}) // log.level is about the gateway's log
	record := slog.NewRecord(time.Now(), slog.LevelInfo, "audit", 0)
	record.AddAttrs(attrs...)
	return log.Handler().Handle(ctx, record) // unlike Info, it tells an error
}

// operator is the system's user who runs this, and who became it by sudo.
func (a *app) operator() string {
	name := fmt.Sprintf("uid %d", os.Getuid())
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if before, ok := a.lookup("SUDO_USER"); ok && before != "" && before != name {
		name = before + " as " + name
	}
	return name
}
