package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"gatehouse/authn"
	"gatehouse/authn/sqlstore"
	"gatehouse/config"
	"gatehouse/proxy"
)

func (a *app) explainCmd() *cobra.Command {
	var ask question
	cmd := &cobra.Command{
		Use:   "explain METHOD URL",
		Short: "Say which route a request takes and what becomes of it",
		Long: "Says which route a request takes and which it passed over, whether it is let\n" +
			"through, and what the upstream would get. Nothing is sent. It is the decision\n" +
			"that a running gateway makes, for a client that no trusted proxy speaks for.\n\n" +
			"URL is a path, then on the host of public_url, or absolute. Without --user and\n" +
			"--roles nobody is asking. A --user who has no account is made up, with\n" +
			"users.default_roles; one who has is taken as the database knows them, except\n" +
			"for --roles.",
		Example: "  gatehouse explain GET /admin --user ann@example.com\n" +
			"  gatehouse explain POST https://api.example.com/v1/orders --roles user -H 'Origin: https://shop.example.com'",
		Args: wantArgs("METHOD", "URL"),
	}
	cmd.Flags().StringVar(&ask.user, "user", "", "ask as the user with this `EMAIL`")
	cmd.Flags().StringVar(&ask.roles, "roles", "", "ask as somebody with these comma-separated `ROLES`")
	cmd.Flags().StringArrayVarP(&ask.headers, "header", "H", nil, "a `'NAME: VALUE'` of the request; may be repeated")
	o := a.outputOf(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ask.method, ask.url = args[0], args[1]
		ask.signedIn = cmd.Flags().Changed("user") || cmd.Flags().Changed("roles")
		ask.rolesGiven = cmd.Flags().Changed("roles")
		e, err := a.explain(cmd.Context(), ask)
		if err != nil {
			return err
		}
		return o.print(e, e.print)
	}
	return cmd
}

// A question is a request as the command line describes it.
type question struct {
	method, url string
	headers     []string
	user, roles string
	signedIn    bool // as somebody, not nobody
	rolesGiven  bool
}

// An explanation is the answer of explain.
type explanation struct {
	Method   string            `json:"method"`
	URL      string            `json:"url"`
	User     *explainedUser    `json:"user"` // null: nobody
	Route    string            `json:"route"`
	At       string            `json:"at"` // where the route stands in the file
	Endpoint bool              `json:"endpoint"`
	Status   int               `json:"status"` // 200: forwarded, or answered by the gateway
	Error    string            `json:"error"`
	Reason   string            `json:"reason"`
	Upstream string            `json:"upstream"`
	Headers  map[string]string `json:"headers"` // that the upstream would get
	Also     []string          `json:"also"`    // routes whose access has to be satisfied too
	Passed   []passedOver      `json:"passed"`
}

type explainedUser struct {
	ID    string   `json:"id"`
	Email string   `json:"email"`
	Roles []string `json:"roles"`
	Note  string   `json:"note,omitempty"`
}

type passedOver struct {
	Route string `json:"route"`
	At    string `json:"at"`
	Why   string `json:"why"`
}

func (a *app) explain(ctx context.Context, ask question) (*explanation, error) {
	// The arguments first: a mistake in them is one whatever the configuration.
	if _, err := requestOf("http://localhost", ask.method, ask.url, ask.headers); err != nil {
		return nil, usageError{err}
	}
	roles, err := parseRoles(ask.roles)
	if err != nil {
		return nil, err
	}
	email := ""
	if ask.user != "" {
		if email, err = parseEmail(ask.user); err != nil {
			return nil, err
		}
	}
	cfg, err := a.load()
	if err != nil {
		return nil, err
	}
	snapshot, err := drySnapshot(cfg)
	if err != nil {
		return nil, err
	}
	r, err := requestOf(cfg.PublicURL, ask.method, ask.url, ask.headers)
	if err != nil {
		return nil, usageError{err}
	}
	var u authn.User
	var id *authn.Identity
	var note string
	if ask.signedIn {
		if u, note, err = lookUp(ctx, cfg, email); err != nil {
			return nil, err
		}
		if ask.rolesGiven {
			u.Roles = roles
		}
		id = pretend(u, nil)
	}
	v := judge(snapshot, snapshot.Explain, r.WithContext(ctx), id)
	if u.Disabled && v.refused == nil && v.Route != nil && v.Route.Access.Kind != config.AccessPublic {
		refused := authn.ErrInvalidToken.Because(errors.New("the user is disabled: their tokens are refused"))
		v = v.refuse(refused, proxy.Status(refused))
	}
	e := v.explanation(cfg, r, id)
	if id != nil {
		e.User = &explainedUser{id.ID, id.Email, notNil(id.Roles), note}
	}
	return e, nil
}

// lookUp is the account of an address, or a made-up one if it has none. The
// database is not made where it is not there.
func lookUp(ctx context.Context, cfg *config.Config, email string) (authn.User, string, error) {
	made := authn.User{ID: "unknown", Email: email, Name: email, Roles: cfg.Users.DefaultRoles}
	if email == "" {
		return made, "made up", nil
	}
	location, err := databaseURL(cfg)
	if err != nil || location == "" {
		return made, "made up: there is no database of accounts", nil
	}
	if path, isFile := strings.CutPrefix(location, "sqlite:"); isFile {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return made, "made up: there is no database yet", nil
		}
	}
	store, err := sqlstore.Open(ctx, location)
	if err != nil {
		return made, "", err
	}
	defer store.Close()
	u, err := store.UserByEmail(ctx, email)
	switch {
	case errors.Is(err, authn.ErrUserNotFound):
		return made, "made up: no account has this address", nil
	case err != nil:
		return made, "", err
	case u.Disabled:
		return u, "disabled", nil
	}
	return u, "", nil
}

func (v verdict) explanation(cfg *config.Config, r *http.Request, id *authn.Identity) *explanation {
	e := &explanation{
		Method:   r.Method,
		URL:      urlOf(r),
		Endpoint: v.refused == nil && v.Endpoint != nil,
		Status:   v.status,
		Reason:   v.reason(),
		Headers:  map[string]string{},
		Also:     []string{},
		Passed:   []passedOver{},
	}
	if v.refused != nil {
		e.Error = v.refused.Code
	}
	if v.Route != nil {
		e.Route, e.At = v.Route.Name, v.Route.Pos.String()
	}
	if v.outgoing != nil {
		e.Upstream, e.Headers = v.upstream(), headersOf(v.outgoing)
		e.hide(cfg, v.Route)
	}
	for _, rt := range v.Also {
		e.Also = append(e.Also, rt.Name)
	}
	for _, p := range v.Passed {
		e.Passed = append(e.Passed, passedOver{p.Route.Name, p.Route.Pos.String(), p.Why})
	}
	return e
}

// hide redacts headers of set_headers that come from the environment: an app's
// key is no part of an explanation, which may be shown to others.
func (e *explanation) hide(cfg *config.Config, rt *proxy.Route) {
	i := slices.IndexFunc(cfg.Routes, func(c config.Route) bool { return c.Pos == rt.Pos })
	for name := range rt.SetHeaders {
		if cfg.Expanded(fmt.Sprintf("routes[%d].set_headers.%s", i, name)) {
			e.Headers[http.CanonicalHeaderKey(name)] = config.Secret("").String()
		}
	}
}

func (e *explanation) print(w io.Writer) {
	fmt.Fprintf(w, "%s %s\n", printable(e.Method), printable(e.URL))
	who := "nobody"
	if e.User != nil {
		who = cmp.Or(e.User.Email, "somebody")
		if len(e.User.Roles) > 0 {
			who += " with roles " + strings.Join(e.User.Roles, ", ")
		}
		if e.User.Note != "" {
			who += " (" + e.User.Note + ")"
		}
	}
	route := "none"
	switch {
	case e.Route != "":
		route = fmt.Sprintf("%s (%s)", e.Route, e.At)
	case e.Endpoint:
		route = "none, an endpoint of the gateway"
	}
	pairs := []string{"as", who, "route", route}
	for _, name := range e.Also {
		pairs = append(pairs, "also", name+", under which an upstream might read the path")
	}
	for _, p := range e.Passed {
		pairs = append(pairs, "passed", fmt.Sprintf("%s (%s): %s", p.Route, p.At, p.Why))
	}
	decision := "let through"
	if e.Error != "" {
		decision = fmt.Sprintf("%d %s", e.Status, e.Error)
	}
	pairs = append(pairs, "decision", decision, "reason", e.Reason)
	if e.Upstream != "" {
		pairs = append(pairs, "upstream", e.Upstream)
	}
	fields(w, pairs...)
	for _, name := range slices.Sorted(maps.Keys(e.Headers)) {
		fmt.Fprintf(w, "    %s: %s\n", printable(name), printable(e.Headers[name]))
	}
}
