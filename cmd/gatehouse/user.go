package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"gatehouse/authn"
)

func (a *app) userCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "user",
		Short: "Manage accounts",
		Long: "Manages the accounts in users.database. What it changes is in force in running\n" +
			"gateways within a second. Passwords are read from the terminal or from standard\n" +
			"input, never from an argument, where other users of the machine could see them.",
	}
	cmd.AddCommand(
		a.userAddCmd(),
		a.userListCmd(),
		a.userShowCmd(),
		a.userSetPasswordCmd(),
		a.userSetRolesCmd(),
		a.userDisabledCmd("disable", "Refuse a user's tokens and sign-ins, keeping the account", true),
		a.userDisabledCmd("enable", "Let a disabled user sign in again", false),
		a.userDeleteCmd(),
		a.userImportCmd(),
	)
	return cmd
}

// A userJSON is an account as commands print it. It has no password hash.
type userJSON struct {
	ID       string   `json:"id"`
	Email    string   `json:"email"`
	Name     string   `json:"name"`
	Roles    []string `json:"roles"`
	Disabled bool     `json:"disabled"`
	Cost     int      `json:"bcrypt_cost"` // 0: no password
	Created  string   `json:"created"`
	Updated  string   `json:"updated"`
}

func userOf(u authn.User) userJSON {
	return userJSON{u.ID, u.Email, u.Name, notNil(u.Roles), u.Disabled, authn.HashCost(u.PasswordHash), utc(u.Created), utc(u.Updated)}
}

func (u userJSON) state() string {
	if u.Disabled {
		return "disabled"
	}
	return "active"
}

func (u userJSON) print(w io.Writer) {
	fields(w,
		"id", u.ID,
		"email", u.Email,
		"name", u.Name,
		"roles", strings.Join(u.Roles, ","),
		"state", u.state(),
		"created", u.Created,
		"updated", u.Updated,
	)
}

// account finds the user that a command names.
func (acc *accounts) account(ctx context.Context, email string) (authn.User, error) {
	u, err := acc.store.UserByEmail(ctx, email)
	if errors.Is(err, authn.ErrUserNotFound) {
		return u, fmt.Errorf("no account for %q", email)
	}
	return u, err
}

// withAccount opens the accounts, by openAccounts or a kin of it, and hands do
// the one that email names.
func (a *app) withAccount(ctx context.Context, open func(context.Context) (*accounts, error), email string, do func(*accounts, authn.User) error) error {
	email, err := parseEmail(email)
	if err != nil {
		return err
	}
	acc, err := open(ctx)
	if err != nil {
		return err
	}
	defer acc.Close()
	u, err := acc.account(ctx, email)
	if err != nil {
		return err
	}
	return do(acc, u)
}

// withUser runs a command about one account: do gets the account that the
// argument names, and the answer is the account as it is afterwards, after
// what was done to it.
func (a *app) withUser(o *output, done string, do func(context.Context, *accounts, authn.User) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		return a.withAccount(ctx, a.openAccounts, args[0], func(acc *accounts, u authn.User) error {
			if err := do(ctx, acc, u); err != nil {
				return err
			}
			u, err := acc.store.UserByID(ctx, u.ID)
			if err != nil {
				return err
			}
			return o.print(userOf(u), func(w io.Writer) {
				if done != "" {
					fmt.Fprintf(w, "%s: %s\n", printable(u.Email), done)
					return
				}
				userOf(u).print(w)
			})
		})
	}
}

func (a *app) userAddCmd() *cobra.Command {
	var name, roles string
	cmd := &cobra.Command{
		Use:     "add EMAIL",
		Short:   "Make an account",
		Long:    "Makes an account. The password is asked for twice, or is the first line of\nstandard input. Without --roles the user gets users.default_roles.",
		Example: "  gatehouse user add ann@example.com --roles admin,ops --name \"Ann Example\"",
		Args:    wantArgs("EMAIL"),
	}
	cmd.Flags().StringVar(&name, "name", "", "the user's `NAME`, by default the address")
	cmd.Flags().StringVar(&roles, "roles", "", "comma-separated `ROLES`")
	o := a.outputOf(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		email, err := parseEmail(args[0])
		if err != nil {
			return err
		}
		list, err := parseRoles(roles)
		if err != nil {
			return err
		}
		acc, err := a.openAccounts(ctx)
		if err != nil {
			return err
		}
		defer acc.Close()
		if !cmd.Flags().Changed("roles") {
			list = acc.cfg.Users.DefaultRoles
		}
		// Asked before the password, so that nobody types one in vain.
		switch _, err := acc.store.UserByEmail(ctx, email); {
		case err == nil:
			return fmt.Errorf("%q has an account already", email)
		case !errors.Is(err, authn.ErrUserNotFound):
			return err
		}
		password, err := a.readPassword()
		if err != nil {
			return err
		}
		u, err := acc.service.AddUser(ctx, email, password, name, list)
		if errors.Is(err, authn.ErrUserExists) {
			return fmt.Errorf("%q has an account already", email)
		}
		if err != nil {
			return plainRefusal(err)
		}
		return o.print(userOf(u), func(w io.Writer) {
			fmt.Fprintf(w, "%s: added, id %s\n", printable(u.Email), printable(u.ID))
		})
	}
	return cmd
}

// plainRefusal is plainCause for refusals, and err for everything else.
func plainRefusal(err error) error {
	var r *authn.Refusal
	if errors.As(err, &r) {
		return plainCause(err)
	}
	return err
}

func (a *app) userListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List all accounts",
	}
	o := a.outputOf(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		acc, err := a.openAccounts(cmd.Context())
		if err != nil {
			return err
		}
		defer acc.Close()
		all, err := acc.store.List(cmd.Context())
		if err != nil {
			return err
		}
		users := make([]userJSON, len(all))
		rows := make([][]string, len(all))
		for i, u := range all {
			users[i] = userOf(u)
			rows[i] = []string{u.Email, u.Name, strings.Join(u.Roles, ","), users[i].state(), utc(u.Created), u.ID}
		}
		return o.print(users, func(w io.Writer) {
			table(w, []string{"EMAIL", "NAME", "ROLES", "STATE", "CREATED", "ID"}, rows)
		})
	}
	return cmd
}

func (a *app) userShowCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show EMAIL",
		Short: "Show one account",
		Args:  wantArgs("EMAIL"),
	}
	nothing := func(context.Context, *accounts, authn.User) error { return nil }
	cmd.RunE = a.withUser(a.outputOf(cmd), "", nothing)
	return cmd
}

func (a *app) userSetPasswordCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "set-password EMAIL",
		Short: "Give a user another password and end all sessions",
		Long:  "Gives a user another password, asked for twice or taken from the first line of\nstandard input. All sessions of the user end, and all tokens are refused.",
		Args:  wantArgs("EMAIL"),
	}
	cmd.RunE = a.withUser(a.outputOf(cmd), "password set, all sessions ended", func(ctx context.Context, acc *accounts, u authn.User) error {
		password, err := a.readPassword()
		if err != nil {
			return err
		}
		return plainRefusal(acc.service.SetPassword(ctx, u.Email, password))
	})
	return cmd
}

func (a *app) userSetRolesCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "set-roles EMAIL ROLES",
		Short:   "Replace a user's roles",
		Long:    "Replaces a user's roles, separated by commas; \"\" takes all of them away. Tokens\nwith the old roles are refused; sessions go on with the new ones.",
		Example: "  gatehouse user set-roles ann@example.com admin,ops\n  gatehouse user set-roles ann@example.com \"\"",
		Args:    wantArgs("EMAIL", "ROLES"),
	}
	o := a.outputOf(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		roles, err := parseRoles(args[1])
		if err != nil {
			return err
		}
		done := "roles " + strings.Join(roles, ",")
		if len(roles) == 0 {
			done = "no roles"
		}
		return a.withUser(o, done, func(ctx context.Context, acc *accounts, u authn.User) error {
			return plainRefusal(acc.service.SetRoles(ctx, u.Email, roles))
		})(cmd, args)
	}
	return cmd
}

func (a *app) userDisabledCmd(name, short string, disabled bool) *cobra.Command {
	cmd := &cobra.Command{
		Use:   name + " EMAIL",
		Short: short,
		Args:  wantArgs("EMAIL"),
	}
	cmd.RunE = a.withUser(a.outputOf(cmd), name+"d", func(ctx context.Context, acc *accounts, u authn.User) error {
		return plainRefusal(acc.service.SetDisabled(ctx, u.Email, disabled))
	})
	return cmd
}

func (a *app) userDeleteCmd() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "delete EMAIL",
		Short: "Delete an account for good",
		Long:  "Deletes an account and its sessions; its tokens are refused. It asks first, or\nwants --yes where there is no terminal.",
		Args:  wantArgs("EMAIL"),
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	o := a.outputOf(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		return a.withAccount(ctx, a.openAccounts, args[0], func(acc *accounts, u authn.User) error {
			if !yes {
				if err := a.confirm(fmt.Sprintf("delete %q", u.Email)); err != nil {
					return err
				}
			}
			if err := acc.service.DeleteUser(ctx, u.Email); err != nil {
				return plainRefusal(err)
			}
			return o.print(userOf(u), func(w io.Writer) {
				fmt.Fprintf(w, "%s: deleted\n", printable(u.Email))
			})
		})
	}
	return cmd
}
