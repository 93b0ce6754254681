package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"gatehouse/authn"
)

func (a *app) sessionCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "session",
		Short: "List and revoke users' sessions",
		Long:  "Lists and revokes sessions: each sign-in is one. A revoked one is refused by\nrunning gateways within a second.",
	}
	cmd.AddCommand(a.sessionListCmd(), a.sessionRevokeCmd())
	return cmd
}

// A sessionJSON is a session as commands print it.
type sessionJSON struct {
	ID        string `json:"id"`
	Created   string `json:"created"`
	LastUsed  string `json:"last_used"`
	Expires   string `json:"expires"`
	Address   string `json:"address"`
	UserAgent string `json:"user_agent"`
}

func (a *app) sessionListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list EMAIL",
		Short: "List a user's sessions",
		Args:  wantArgs("EMAIL"),
	}
	o := a.outputOf(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		return a.withAccount(ctx, a.openAccounts, args[0], func(acc *accounts, u authn.User) error {
			all, err := acc.service.SessionsOf(ctx, u.ID)
			if err != nil {
				return err
			}
			sessions := make([]sessionJSON, len(all))
			rows := make([][]string, len(all))
			for i, s := range all {
				sessions[i] = sessionJSON{s.ID, utc(s.Created), utc(s.LastUsed), utc(s.Expires), s.Address, s.UserAgent}
				rows[i] = []string{s.ID, utc(s.Created), utc(s.LastUsed), utc(s.Expires), s.Address, s.UserAgent}
			}
			return o.print(sessions, func(w io.Writer) {
				table(w, []string{"ID", "CREATED", "LAST USED", "EXPIRES", "ADDRESS", "USER AGENT"}, rows)
			})
		})
	}
	return cmd
}

func (a *app) sessionRevokeCmd() *cobra.Command {
	var email string
	var all bool
	cmd := &cobra.Command{
		Use:     "revoke ID | --user EMAIL --all",
		Short:   "Revoke one session, or everything a user holds",
		Long:    "Revokes one session by its ID, or with --user and --all everything that a user\nholds: every session, and tokens without one.",
		Example: "  gatehouse session revoke 553g2kzfaryqmvplyo5v2k6oun\n  gatehouse session revoke --user ann@example.com --all",
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case all && email == "":
				return usagef("--all: want --user EMAIL with it")
			case email != "" && !all:
				return usagef("--user: want --all with it, or the ID of one session alone")
			case all:
				return wantArgs()(nil, args)
			}
			return wantArgs("ID")(nil, args)
		},
	}
	cmd.Flags().StringVar(&email, "user", "", "the user's `EMAIL`, with --all")
	cmd.Flags().BoolVar(&all, "all", false, "everything that the user holds")
	o := a.outputOf(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		if all {
			return a.withAccount(ctx, a.openAccounts, email, func(acc *accounts, u authn.User) error {
				return acc.revokeAll(ctx, o, u)
			})
		}
		acc, err := a.openAccounts(ctx)
		if err != nil {
			return err
		}
		defer acc.Close()
		return acc.revokeSession(ctx, o, args[0])
	}
	return cmd
}

// A revokedJSON is what a revocation ended.
type revokedJSON struct {
	Revoked  string `json:"revoked"` // "token", "session", "user"; "nothing" because of Reason
	ID       string `json:"id,omitempty"`
	Sessions int    `json:"sessions,omitempty"`
	Reason   string `json:"reason,omitempty"`
}

func (acc *accounts) revokeSession(ctx context.Context, o *output, id string) error {
	s, err := acc.store.SessionByID(ctx, id)
	if errors.Is(err, authn.ErrSessionNotFound) {
		return fmt.Errorf("no session %q: \"gatehouse session list EMAIL\" shows a user's", id)
	}
	if err != nil {
		return err
	}
	if err := acc.service.EndSession(ctx, s.UserID, s.ID); err != nil {
		return plainRefusal(err)
	}
	return o.print(revokedJSON{Revoked: "session", ID: s.ID}, func(w io.Writer) {
		fmt.Fprintf(w, "revoked session %s\n", printable(s.ID))
	})
}

// revokeAll raises the user's generation, which refuses tokens of no session as
// well, and ends the sessions.
func (acc *accounts) revokeAll(ctx context.Context, o *output, u authn.User) error {
	sessions, err := acc.service.SessionsOf(ctx, u.ID)
	if err != nil {
		return err
	}
	if err := acc.service.Logout(ctx, &authn.Identity{ID: u.ID, Email: u.Email, Generation: u.Generation}, true); err != nil {
		return plainRefusal(err)
	}
	return o.print(revokedJSON{Revoked: "user", ID: u.ID, Sessions: len(sessions)}, func(w io.Writer) {
		fmt.Fprintf(w, "revoked everything that %s holds, %s\n", printable(u.Email), count(len(sessions), "session"))
	})
}
