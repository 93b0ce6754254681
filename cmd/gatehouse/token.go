package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gatehouse/authn"
)

func (a *app) tokenCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Issue, inspect and revoke access tokens",
	}
	cmd.AddCommand(a.tokenIssueCmd(), a.tokenInspectCmd(), a.tokenRevokeCmd())
	return cmd
}

// An issuedJSON is a new token, in the words of POST /login.
type issuedJSON struct {
	AccessToken string   `json:"access_token"`
	TokenType   string   `json:"token_type"`
	ExpiresIn   int64    `json:"expires_in"`
	ExpiresAt   string   `json:"expires_at"`
	ID          string   `json:"id"` // jti
	Sub         string   `json:"sub"`
	Roles       []string `json:"roles"`
}

func (a *app) tokenIssueCmd() *cobra.Command {
	var ttl time.Duration
	var roles string
	cmd := &cobra.Command{
		Use:   "issue EMAIL",
		Short: "Issue an access token for a user or a service",
		Long: "Issues an access token for an account: a user's, or one made for a service. The\n" +
			"token belongs to no session, so it ends by its time, by \"token revoke\", or with\n" +
			"the account. It is printed alone on one line.",
		Example: "  gatehouse token issue backup@example.com --ttl 720h --roles backup",
		Args:    wantArgs("EMAIL"),
	}
	cmd.Flags().DurationVar(&ttl, "ttl", 0, "how long it is good, such as 1h or 30m; default tokens.access_ttl")
	cmd.Flags().StringVar(&roles, "roles", "", "comma-separated `ROLES` in place of the account's own; \"\" for none")
	o := a.outputOf(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		var list []string // nil: the account's own
		if cmd.Flags().Changed("roles") {
			parsed, err := parseRoles(roles)
			if err != nil {
				return err
			}
			list = notNil(parsed)
		}
		if cmd.Flags().Changed("ttl") && ttl < time.Second {
			return usagef("--ttl %s: want at least 1s", ttl)
		}
		return a.withAccount(ctx, a.openIssuer, args[0], func(acc *accounts, u authn.User) error {
			if u.Disabled {
				return fmt.Errorf("%q is disabled: a token would be refused", u.Email)
			}
			token, id, err := acc.service.IssueToken(ctx, u.Email, list, ttl)
			if err != nil {
				return plainRefusal(err)
			}
			answer := issuedJSON{
				AccessToken: token,
				TokenType:   "Bearer",
				ExpiresIn:   int64(id.Expires.Sub(id.Issued) / time.Second),
				ExpiresAt:   utc(id.Expires),
				ID:          id.Token,
				Sub:         id.ID,
				Roles:       notNil(id.Roles),
			}
			return o.print(answer, func(w io.Writer) { fmt.Fprintln(w, token) })
		})
	}
	return cmd
}

// maxTokenLine is above what any token may have, so that one that is too long
// is told as that.
const maxTokenLine = 64 << 10

// tokenArg is the token in args, or the first line of standard input. "Bearer"
// before it, as it is copied from a header, does not matter.
func (a *app) tokenArg(args []string) (string, error) {
	var token string
	var err error
	if len(args) == 1 && args[0] != "-" {
		token = args[0]
	} else if token, err = a.readLine(maxTokenLine); err != nil {
		return "", err
	}
	token = strings.TrimSpace(token)
	if scheme, rest, ok := strings.Cut(token, " "); ok && strings.EqualFold(scheme, "Bearer") {
		token = strings.TrimSpace(rest)
	}
	if token == "" {
		return "", errors.New("no token: want it as an argument or as the first line of standard input")
	}
	return token, nil
}

// oneTokenAtMost leaves the token out of the message.
func oneTokenAtMost(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usagef("too many arguments: want one TOKEN, or none to read it from standard input")
	}
	return nil
}

// An inspection is what a token says, and what the gateway would say to it.
type inspection struct {
	Accepted bool            `json:"accepted"`
	Error    string          `json:"error,omitempty"` // the refusal's code
	Reason   string          `json:"reason,omitempty"`
	Account  string          `json:"account,omitempty"` // active, disabled, unknown; only where the signature is good
	Header   json.RawMessage `json:"header"`            // null if it cannot be read
	Claims   json.RawMessage `json:"claims"`
}

func (a *app) tokenInspectCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inspect [TOKEN]",
		Short: "Decode a token and say whether it would be accepted, and if not exactly why",
		Long: "Decodes the token in the argument, or on the first line of standard input, and\n" +
			"verifies it as the gateway would. Exit code 1 if it would be refused. What a\n" +
			"refused token says is shown as it stands, and may be anybody's invention.",
		Args: oneTokenAtMost,
	}
	o := a.outputOf(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		token, err := a.tokenArg(args)
		if err != nil {
			return err
		}
		acc, err := a.openVerifier(ctx)
		if err != nil {
			return err
		}
		defer acc.Close()
		result, err := acc.inspect(ctx, token)
		if err != nil {
			return err
		}
		if err := o.print(result, result.print); err != nil {
			return err
		}
		if !result.Accepted {
			return errReported
		}
		return nil
	}
	return cmd
}

// inspect verifies token as a running gateway would. Its error means that no
// verdict was possible.
func (acc *accounts) inspect(ctx context.Context, token string) (inspection, error) {
	var in inspection
	parts := strings.Split(token, ".")
	in.Header = decodePart(parts, 0)
	in.Claims = decodePart(parts, 1)

	id, err := acc.verifier.Verify(ctx, token)
	var refused *authn.Refusal
	switch {
	case err == nil:
		in.Accepted = true
	case errors.As(err, &refused):
		in.Error, in.Reason = refused.Code, refused.Cause()
		if in.Reason == "" {
			in.Reason = refused.Message
		}
		// Nothing of a token is looked up unless its signature is good.
		id, err = acc.tokens.Verify(ctx, token)
		if err != nil {
			return in, nil
		}
	default:
		return in, err
	}
	if id.Issuer != "" || acc.store == nil {
		return in, nil // accounts of others are not ours to know
	}
	u, err := acc.store.UserByID(ctx, id.ID)
	switch {
	case errors.Is(err, authn.ErrUserNotFound):
		in.Account = "deleted"
	case err != nil:
		return in, err
	case u.Disabled:
		in.Account = "disabled"
	default:
		in.Account = "active"
	}
	if !in.Accepted && in.Account != "active" {
		in.Reason += ", the account is " + in.Account
	}
	return in, nil
}

// decodePart is one part of a JWS in compact form, as JSON; null if it is none.
func decodePart(parts []string, n int) json.RawMessage {
	if n >= len(parts) {
		return json.RawMessage("null")
	}
	doc, err := base64.RawURLEncoding.DecodeString(parts[n])
	if err != nil || !json.Valid(doc) {
		return json.RawMessage("null")
	}
	return doc
}

func (in inspection) print(w io.Writer) {
	for _, part := range []struct {
		name string
		doc  json.RawMessage
	}{{"header", in.Header}, {"claims", in.Claims}} {
		if string(part.doc) == "null" {
			fmt.Fprintf(w, "%s: cannot be read\n", part.name)
			continue
		}
		var b bytes.Buffer
		_ = json.Indent(&b, part.doc, "", "  ") // decodePart has made sure of it
		fmt.Fprintf(w, "%s: %s\n", part.name, printableJSON(b.Bytes()))
	}
	var dates struct {
		Issued    json.Number `json:"iat"`
		NotBefore json.Number `json:"nbf"`
		Expires   json.Number `json:"exp"`
	}
	if json.Unmarshal(in.Claims, &dates) == nil {
		for _, d := range []struct {
			name string
			n    json.Number
		}{{"issued", dates.Issued}, {"not before", dates.NotBefore}, {"expires", dates.Expires}} {
			if seconds, err := d.n.Int64(); err == nil && seconds >= 0 && seconds < 1<<38 {
				fmt.Fprintf(w, "%s: %s\n", d.name, utc(time.Unix(seconds, 0)))
			}
		}
	}
	if in.Accepted {
		fmt.Fprintln(w, "accepted")
		return
	}
	fmt.Fprintf(w, "refused: %s: %s\n", in.Error, printable(in.Reason))
}

func (a *app) tokenRevokeCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke [TOKEN]",
		Short: "Revoke one token",
		Long: "Revokes the token in the argument, or on the first line of standard input. It is\n" +
			"refused by running gateways within a second. One that is revoked or expired\n" +
			"already is left as it is; any other that the gateway would refuse is an error.",
		Args: oneTokenAtMost,
	}
	o := a.outputOf(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		token, err := a.tokenArg(args)
		if err != nil {
			return err
		}
		acc, err := a.openVerifier(ctx)
		if err == nil && !acc.cfg.Revokes() {
			err = errors.Join(acc.cfg.Problem("users.database", "users.database is none and revocation.store is embedded: there is nothing to record a revocation in"), acc.Close())
		}
		if err != nil {
			return err
		}
		defer acc.Close()
		id, err := acc.verifier.Verify(ctx, token)
		var refused *authn.Refusal
		switch {
		case errors.As(err, &refused) && refused.Description != "":
			// Its signature is good and it is dead: what was asked for holds.
			return o.print(revokedJSON{Revoked: "nothing", Reason: refused.Description}, func(w io.Writer) {
				fmt.Fprintf(w, "nothing to revoke: %s\n", printable(refused.Cause()))
			})
		case errors.As(err, &refused):
			return fmt.Errorf("this token is refused as it is: %s", refused.Cause())
		case err != nil:
			return err
		}
		if err := acc.service.RevokeToken(ctx, id); err != nil {
			return plainRefusal(err)
		}
		return o.print(revokedJSON{Revoked: "token", ID: id.Token}, func(w io.Writer) {
			fmt.Fprintf(w, "revoked token %s of %s\n", printable(id.Token), printable(id.Email))
		})
	}
	return cmd
}
