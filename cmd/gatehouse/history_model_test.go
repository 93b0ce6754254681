package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// A history is every call that clients made of a fleet of gateways. Its times
// are taken before a call began and after it ended, all by one clock, so that
// only what certainly came after something is judged by it.
type history struct {
	began     time.Time
	grace     time.Duration // refresh_grace
	staleness time.Duration // max_staleness, of gateways that are fast
	strict    []bool        // which gateways are strict

	mu       sync.Mutex
	sessions []*historySession
	ends     []ending
	counts   map[string]int
	slowest  map[string]time.Duration
}

// A span is when a call began and ended.
type span struct{ began, ended time.Duration }

const never = time.Duration(math.MaxInt64) // when a call ends whose outcome nobody knows

// A historySession is one login and what it was good for.
type historySession struct {
	user    *historyUser
	id      string
	created span
	tokens  []*historyToken
	refresh []string // refresh tokens, in the order in which they became known
	spent   []spending
	over    bool // as far as clients know; nothing is judged by it
}

// A historyToken is one access token.
type historyToken struct {
	session *historySession
	text    string
	uses    []tokenUse
}

// A tokenUse is a request with a token that was answered: accepted, or refused as
// revoked.
type tokenUse struct {
	span
	gateway  int
	accepted bool
}

// A spending is one call of /refresh. Tokens are their places in refresh.
type spending struct {
	span
	token   int
	outcome outcome
	got     int
}

type outcome int

const (
	done    outcome = iota
	refused         // for good: the session is over
	unknown         // it may have had its effect, or have it later
)

// An ending is a call that revokes: one token, one session, or all sessions of
// a user but one.
type ending struct {
	span
	gateway int // that acknowledged it and has it in its list; -1 is a command, or another one
	token   *historyToken
	session *historySession
	user    *historyUser
	but     *historySession
	outcome outcome
	// spending is the use of a spent refresh token: refreshModel sees it by
	// itself.
	spending bool
}

// ends tells whether e certainly ended t, and whether it can have done so.
func (e ending) endsToken(t *historyToken) (certain, possible bool) {
	if e.token == t {
		return e.outcome == done, true
	}
	return e.endsSession(t.session)
}

func (e ending) endsSession(s *historySession) (certain, possible bool) {
	switch {
	case e.session == s:
		return e.outcome == done, true
	case e.user != s.user || e.but == s:
		return false, false
	case s.created.ended < e.began:
		return e.outcome == done, true
	}
	// What began after it ended is good, in the very same second.
	return false, e.outcome == unknown || s.created.began < e.ended
}

// check holds the history to its models and tells of all calls of the first
// tokens and sessions that do not fit.
func (h *history) check(t *testing.T) {
	t.Helper()
	refreshes := refreshModel(h.grace)
	violations := 0
	for _, s := range h.sessions {
		if !porcupine.CheckOperations(refreshes, h.refreshes(s)) {
			if violations++; violations <= 3 {
				t.Errorf("no order explains the refreshes of session %s:\n%s", s.id, h.tellSession(s))
			}
		}
		for i, token := range s.tokens {
			for name, view := range h.views() {
				if !porcupine.CheckOperations(registerModel, h.register(token, view)) {
					if violations++; violations <= 3 {
						t.Errorf("no order explains what %s said of token %d of session %s:\n%s", name, i, s.id, h.tellToken(token))
					}
				}
			}
		}
	}
	if violations > 3 {
		t.Errorf("%d violations", violations)
	}
}

// A view is some gateways that must agree, and how long after a revocation was
// acknowledged elsewhere they may not know it yet.
type view struct {
	gateways []int
	bound    time.Duration
}

// views are all strict gateways together, which answer as if they were one and
// knew everything at once, and each fast one by itself.
func (h *history) views() map[string]view {
	views := map[string]view{}
	for g, strict := range h.strict {
		if !strict {
			views[fmt.Sprintf("gateway %d", g)] = view{[]int{g}, h.staleness}
			continue
		}
		all := views["the strict gateways"]
		all.gateways = append(all.gateways, g)
		views["the strict gateways"] = all
	}
	return views
}

// registerModel is a token: live until it is revoked, and never again.
var registerModel = porcupine.Model{
	Init: func() any { return true },
	Step: func(live, input, _ any) (bool, any) {
		switch u, used := input.(tokenUse); {
		case !used:
			return true, false // revoked
		default:
			return u.accepted == live.(bool), live
		}
	},
}

// register is what was done with a token, as a view must see it.
func (h *history) register(t *historyToken, v view) (ops []porcupine.Operation) {
	for _, u := range t.uses {
		if slices.Contains(v.gateways, u.gateway) {
			ops = append(ops, porcupine.Operation{Input: u, Call: int64(u.began), Return: int64(u.ended)})
		}
	}
	perhaps := never
	for _, e := range h.ends {
		certain, possible := e.endsToken(t)
		switch {
		case certain && slices.Contains(v.gateways, e.gateway):
			ops = append(ops, porcupine.Operation{Input: e, Call: int64(e.began), Return: int64(e.ended)})
		case certain:
			ops = append(ops, porcupine.Operation{Input: e, Call: int64(e.began), Return: int64(e.ended + v.bound)})
		case possible:
			perhaps = min(perhaps, e.began)
		}
	}
	return append(ops, once(ending{}, perhaps)...)
}

// once is an end that may have come at any time from a moment on, or never: the
// checker may put it behind everything. One stands for all of them.
func once(input any, from time.Duration) []porcupine.Operation {
	if from == never {
		return nil
	}
	return []porcupine.Operation{{Input: input, Call: int64(from), Return: int64(never)}}
}

// refreshes is what was done with the refresh tokens of a session. All gateways
// share one database.
func (h *history) refreshes(s *historySession) (ops []porcupine.Operation) {
	for _, r := range s.spent {
		end := r.ended
		if r.outcome == unknown {
			end = never
		}
		ops = append(ops, porcupine.Operation{Input: r, Call: int64(r.began), Return: int64(end)})
	}
	perhaps := never
	for _, e := range h.ends {
		certain, possible := e.endsSession(s)
		switch {
		case e.spending:
		case certain:
			ops = append(ops, porcupine.Operation{Input: e, Call: int64(e.began), Return: int64(e.ended)})
		case possible:
			perhaps = min(perhaps, e.began)
		}
	}
	return append(ops, once(ending{}, perhaps)...)
}

// A chain is where a session's refresh tokens have come to.
type chain struct {
	over          bool
	current, last int  // last was spent for current; nobody is none
	spent         span // when
}

const (
	nobody  = -1
	untold  = -2 // a successor whose holder never heard of it
	lenient = 50 * time.Millisecond
)

// refreshModel is a session: its current token yields another; the one before
// yields the same one again during the grace; every other use ends it.
func refreshModel(grace time.Duration) porcupine.Model {
	m := porcupine.NondeterministicModel{
		Init: func() []any { return []any{chain{current: 0, last: nobody}} },
		Step: func(state, input, _ any) []any {
			c := state.(chain)
			over := c
			over.over = true
			r, spending := input.(spending)
			if !spending {
				return []any{over}
			}
			if c.over {
				if r.outcome == done {
					return nil
				}
				return []any{c}
			}
			if r.token == c.current {
				next := chain{current: r.got, last: r.token, spent: r.span}
				switch r.outcome {
				case done:
					return []any{next}
				case unknown:
					next.current = untold
					next.spent.ended += 10 * time.Second // the gateway may have gone on with it
					return []any{c, next}
				}
				return nil
			}
			within := r.token == c.last && r.began-c.spent.ended < grace+lenient
			after := r.token != c.last || r.ended-c.spent.began > grace-lenient
			var states []any
			if within && r.outcome == done && (c.current == r.got || c.current == untold) {
				c.current = r.got
				states = append(states, c)
			}
			if after && r.outcome != done {
				states = append(states, over)
			}
			if r.outcome == unknown {
				states = append(states, c)
			}
			return states
		},
	}
	return m.ToModel()
}

// tellToken is the story of a token, for whoever looks for the mistake.
func (h *history) tellToken(t *historyToken) string {
	lines := []told{{t.session.created, "login"}}
	for _, u := range t.uses {
		lines = append(lines, told{u.span, fmt.Sprintf("gateway %d accepted: %v", u.gateway, u.accepted)})
	}
	for _, e := range h.ends {
		if certain, possible := e.endsToken(t); possible {
			lines = append(lines, told{e.span, e.tell(certain)})
		}
	}
	return tell(lines)
}

func (h *history) tellSession(s *historySession) string {
	lines := []told{{s.created, "login, refresh token 0"}}
	for _, r := range s.spent {
		answer := [...]string{fmt.Sprintf("token %d", r.got), "refused", "no verdict"}[r.outcome]
		lines = append(lines, told{r.span, fmt.Sprintf("refresh token %d: %s", r.token, answer)})
	}
	for _, e := range h.ends {
		if certain, possible := e.endsSession(s); possible {
			lines = append(lines, told{e.span, e.tell(certain)})
		}
	}
	return tell(lines)
}

func (e ending) tell(certain bool) string {
	what := "user"
	if e.token != nil {
		what = "token"
	} else if e.session != nil {
		what = "session"
	}
	return fmt.Sprintf("gateway %d revoked the %s, certain: %v", e.gateway, what, certain)
}

type told struct {
	span
	text string
}

func tell(lines []told) string {
	slices.SortFunc(lines, func(a, b told) int { return cmp.Compare(a.began, b.began) })
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "  %12s to %12s  %s\n", l.began.Round(time.Microsecond), l.ended.Round(time.Microsecond), l.text)
	}
	return b.String()
}
