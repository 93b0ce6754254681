package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse/authn"
)

// A historyUser is an account that several clients use. What changes the
// password, or locks the account, comes one at a time and not during a login:
// their answers would depend on each other.
type historyUser struct {
	email    string
	mu       sync.RWMutex
	password []string // one of these
}

// A historyClient does one thing after the other, as its seed says.
type historyClient struct {
	*history
	t      *testing.T
	fleet  *fleet
	http   *http.Client
	random *rand.Rand
	dead   []*historyToken // what it has seen revoked
}

// hangs is how long a call may take on a machine that runs other tests. What
// revokes may wait for two stores, and for several sessions.
const (
	useHangs  = 5 * time.Second
	callHangs = 15 * time.Second
)

// steps are what a client does, each as often as its number says.
var steps = []struct {
	often int
	do    func(c *historyClient)
}{
	{600, (*historyClient).use},
	{150, (*historyClient).useDead},
	{80, (*historyClient).login},
	{90, (*historyClient).refresh},
	{40, (*historyClient).logout},
	{25, (*historyClient).revokeToken},
	{5, (*historyClient).logoutEverywhere},
	{5, (*historyClient).changePassword},
	{12, (*historyClient).revokeByCommand},
	{5, (*historyClient).disable},
}

func (c *historyClient) step() {
	n := 0
	for _, s := range steps {
		n += s.often
	}
	n = c.random.IntN(n)
	for _, s := range steps {
		if n -= s.often; n < 0 {
			s.do(c)
			return
		}
	}
}

// call sends a request to a gateway. status is 0 if no answer came.
func (c *historyClient) call(what string, g int, method, path, token string, body any) (status int, answer []byte, s span) {
	var text bytes.Buffer
	if body != nil {
		_ = json.NewEncoder(&text).Encode(body)
	}
	req, err := http.NewRequest(method, c.fleet.gateways[g].url+path, &text)
	if err != nil {
		c.t.Error(err)
		return 0, nil, s
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if form, ok := body.(string); ok {
		req, _ = http.NewRequest(method, c.fleet.gateways[g].url+path, strings.NewReader(form))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	s.began = time.Since(c.began)
	res, err := c.http.Do(req)
	if err == nil {
		status = res.StatusCode
		answer, err = io.ReadAll(res.Body)
		res.Body.Close()
	}
	s.ended = time.Since(c.began)
	if err != nil {
		status = 0
	}
	c.took(what, s)
	return status, answer, s
}

func (c *historyClient) took(what string, s span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	took := s.ended - s.began
	c.slowest[what] = max(c.slowest[what], took)
	if took > callHangs || what == "use" && took > useHangs {
		c.t.Errorf("%s at %s took %s", what, s.began, took)
	}
}

func (c *historyClient) count(what string, status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts[fmt.Sprintf("%s %d", what, status)]++
}

func (c *historyClient) gateway() int { return c.random.IntN(len(c.fleet.gateways)) }

// recent is one of the sessions that began last, so that each is used often,
// and mostly one that is not over; nil before the first.
func (c *historyClient) recent() (s *historySession) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for try := 0; try < 5 && len(c.sessions) > 0 && (s == nil || s.over); try++ {
		s = c.sessions[max(0, len(c.sessions)-1-c.random.IntN(40))]
	}
	return s
}

// token is one of the session's, mostly the last.
func (c *historyClient) token(s *historySession) *historyToken {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.random.IntN(2) == 0 {
		return s.tokens[len(s.tokens)-1]
	}
	return s.tokens[c.random.IntN(len(s.tokens))]
}

func (c *historyClient) use() {
	if s := c.recent(); s != nil {
		c.useAt(c.token(s), c.gateway())
	}
}

// useDead tries what was revoked, a moment ago or long since.
func (c *historyClient) useDead() {
	if n := len(c.dead); n > 0 {
		c.useAt(c.dead[max(0, n-1-c.random.IntN(20))], c.gateway())
	}
}

func (c *historyClient) useAt(token *historyToken, g int) (status int) {
	status, answer, s := c.call("use", g, "GET", "/", token.text, nil)
	c.count("use", status)
	switch status {
	case 200, 401:
		c.mu.Lock()
		defer c.mu.Unlock()
		token.uses = append(token.uses, tokenUse{s, g, status == 200})
	case 0, 503: // no verdict
	default:
		c.t.Errorf("gateway %d answers a request with %d %s", g, status, answer)
	}
	return status
}

type historyGrant struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
}

func (c *historyClient) login() {
	u := c.fleet.users[c.random.IntN(len(c.fleet.users))]
	u.mu.RLock()
	defer u.mu.RUnlock()
	for _, password := range u.password {
		status, answer, s := c.call("login", c.gateway(), "POST", "/login", "", map[string]string{"email": u.email, "password": password})
		c.count("login", status)
		var grant historyGrant
		switch {
		case status == 200 && json.Unmarshal(answer, &grant) == nil:
			_, claims, err := authn.Inspect(grant.AccessToken)
			if err != nil {
				c.t.Error(err)
				return
			}
			session := &historySession{user: u, id: claims["sid"].(string), created: s, refresh: []string{grant.RefreshToken}}
			session.tokens = []*historyToken{{session: session, text: grant.AccessToken}}
			c.mu.Lock()
			c.sessions = append(c.sessions, session)
			c.mu.Unlock()
			return
		case status == 400 && len(u.password) > 1: // the other, then
		case status == 0 || status == 503:
			return
		default:
			c.t.Errorf("login of %s answers %d %s", u.email, status, answer)
			return
		}
	}
	c.t.Errorf("%s cannot sign in with any password that may hold", u.email)
}

func (c *historyClient) refresh() {
	c.revoking(c.refreshAt) // a spent token revokes
}

func (c *historyClient) refreshAt(g int, s *historySession, _ *historyToken) {
	c.mu.Lock()
	token := len(s.refresh) - 1
	switch n := c.random.IntN(100); {
	case n < 12:
		token = max(0, token-1)
	case n < 14:
		token = c.random.IntN(token + 1)
	}
	text := s.refresh[token]
	c.mu.Unlock()
	status, answer, at := c.call("refresh", g, "POST", "/.gatehouse/refresh", "", map[string]string{"refresh_token": text})
	c.count("refresh", status)
	r := spending{span: at, token: token, outcome: unknown}
	var grant historyGrant
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case status == 200 && json.Unmarshal(answer, &grant) == nil:
		r.outcome, r.got = done, slices.Index(s.refresh, grant.RefreshToken)
		if r.got < 0 {
			r.got = len(s.refresh)
			s.refresh = append(s.refresh, grant.RefreshToken)
		}
		s.tokens = append(s.tokens, &historyToken{session: s, text: grant.AccessToken})
	case status == 401:
		// Whatever had ended it before, it is over now; this gateway need not
		// know it from its list.
		r.outcome, s.over = refused, true
		c.dead = append(c.dead, s.tokens[len(s.tokens)-1])
		c.ends = append(c.ends, ending{span: at, gateway: -1, session: s, spending: true})
	case status == 0 || status == 503:
		c.ends = append(c.ends, ending{span: at, gateway: -1, session: s, outcome: unknown, spending: true})
	default:
		c.t.Errorf("refresh answers %d %s", status, answer)
	}
	s.spent = append(s.spent, r)
}

// end records a call that revokes, and uses what it revoked elsewhere.
func (c *historyClient) end(what string, status int, e ending, token *historyToken) {
	c.count(what, status)
	switch status {
	case 200, 204:
	case 400, 401: // revoked already, or by somebody else just now
		return
	case 0, 503:
		e.outcome = unknown
	default:
		c.t.Errorf("%s answers %d", what, status)
	}
	c.mu.Lock()
	c.ends = append(c.ends, e)
	for _, s := range c.sessions {
		if certain, _ := e.endsSession(s); certain {
			s.over = true
		}
	}
	c.mu.Unlock()
	if e.outcome == done && token != nil {
		c.dead = append(c.dead, token)
		c.useAt(token, c.gateway())
	}
}

// revoking is a session and its last token, at a time when revoking is not kept
// from clients; then goes on.
func (c *historyClient) revoking(then func(g int, s *historySession, token *historyToken)) {
	if s := c.recent(); s != nil {
		c.fleet.revoking.RLock()
		defer c.fleet.revoking.RUnlock()
		then(c.gateway(), s, c.token(s))
	}
}

func (c *historyClient) logout() {
	c.revoking(func(g int, s *historySession, token *historyToken) {
		status, _, at := c.call("logout", g, "POST", "/logout", token.text, map[string]any{})
		c.end("logout", status, ending{span: at, gateway: g, session: s}, token)
	})
}

func (c *historyClient) logoutEverywhere() {
	c.revoking(func(g int, s *historySession, token *historyToken) {
		status, _, at := c.call("everywhere", g, "POST", "/logout", token.text, map[string]any{"everywhere": true})
		c.end("everywhere", status, ending{span: at, gateway: g, user: s.user}, token)
	})
}

// revokeToken ends one token and leaves its session.
func (c *historyClient) revokeToken() {
	c.revoking(func(g int, s *historySession, token *historyToken) {
		status, _, at := c.call("revoke", g, "POST", "/.gatehouse/revoke", token.text, "token="+token.text)
		c.end("revoke", status, ending{span: at, gateway: g, token: token}, token)
	})
}

func (c *historyClient) changePassword() {
	c.revoking(func(g int, s *historySession, token *historyToken) {
		u := s.user
		u.mu.Lock()
		defer u.mu.Unlock()
		next := fmt.Sprintf("password %d", c.random.Uint64())
		status, _, at := c.call("password", g, "POST", "/.gatehouse/password", token.text,
			map[string]string{"current_password": u.password[0], "new_password": next})
		switch status {
		case 204:
			u.password = []string{next}
		case 0, 503:
			u.password = append([]string{next}, u.password...)
		case 400: // another one, then
			u.password = append(u.password[1:], u.password[0])
		}
		c.end("password", status, ending{span: at, gateway: g, user: u, but: s}, nil)
	})
}

// command is what an operator types on the machine of a gateway. It tells
// whether that went well.
func (c *historyClient) command(g int, args ...string) (bool, span) {
	gw := c.fleet.gateways[g]
	var out lockedBuffer
	at := span{began: time.Since(c.began)}
	code := run(context.Background(), append(args, "--config", gw.file), strings.NewReader(""), &out, &out, gw.lookup)
	at.ended = time.Since(c.began)
	return code == exitDone, at
}

func (c *historyClient) revokeByCommand() {
	c.revoking(func(g int, s *historySession, token *historyToken) {
		e := ending{gateway: -1, session: s}
		var ok bool
		if c.random.IntN(2) == 0 {
			ok, e.span = c.command(g, "session", "revoke", s.id)
		} else {
			e = ending{gateway: -1, token: token}
			ok, e.span = c.command(g, "token", "revoke", token.text)
		}
		c.end("command", map[bool]int{true: 204, false: 503}[ok], e, token)
	})
}

// disable locks a user out and lets the user in again, who has to sign in anew.
func (c *historyClient) disable() {
	c.revoking(func(g int, s *historySession, token *historyToken) {
		u := s.user
		u.mu.Lock()
		defer u.mu.Unlock()
		persist := func(command string) (at span) {
			for at.began = time.Since(c.began); ; {
				ok, last := c.command(g, "user", command, u.email)
				at.ended = last.ended
				if ok {
					return at
				}
				if at.ended-at.began > time.Minute {
					c.t.Errorf("%s %s never succeeds", command, u.email)
					return at
				}
			}
		}
		at := persist("disable")
		c.end("disable", 204, ending{span: at, gateway: -1, user: u}, token)
		persist("enable")
	})
}
