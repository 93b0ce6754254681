package pages

import (
	"net/http"
	"time"

	"gatehouse/authn"
)

// A sample is a page with what it may have to show.
type sample struct {
	Page
	wants []need
}

// samples are one of each kind: empty forms, failed ones, every error.
func (s *Set) samples(l *language) []sample {
	const minLength = 8
	links := s.links
	whole := authn.ErrTooManyAttempts.After(90 * time.Second)
	at := func(field string) *authn.Refusal { return authn.ErrInvalidRequest.About(authn.Missing(field)) }

	var all []sample
	for _, name := range []string{"login", "register"} {
		action, other := links.Login, "current-password"
		if name == "register" {
			action, other = links.Register, "new-password"
		}
		empty := s.page(l, name).WithFocus("email").WithMinLength(minLength)
		empty.Registration = true
		closed := empty
		closed.Registration = false
		again := empty.WithValue("email", "ann@example.com").WithValue("name", "Ann")
		again.Next = "/app?x=1"
		wants := []need{input("email"), input("password")}
		if action != "" {
			wants = append(wants, leadsTo("action", action))
		}
		all = append(all,
			sample{empty, wants},
			sample{closed.WithNotice("registered"), wants},
			sample{again.WithRefusal(whole), append([]need{input("next"), shows("failure", again.WithRefusal(whole).Failure)}, wants...)},
		)
		for _, field := range fields[name] {
			failed := again.WithRefusal(at(field))
			autocomplete := map[string]string{"email": "username", "name": "name", "password": other}[field]
			all = append(all, sample{failed, append([]need{shows("failure of the field "+field, failed.Field(field, autocomplete).Failure)}, wants...)})
		}
	}
	signedIn := s.page(l, "continue")
	all = append(all, sample{signedIn, []need{leadsTo("href", links.Home)}})
	signedIn.Next = "/app?x=1"
	all = append(all, sample{signedIn, []need{leadsTo("href", signedIn.Next)}})
	all = append(all, s.accounts(l, whole, at)...)
	return append(all, s.refusals(l)...)
}

func (s *Set) accounts(l *language, whole *authn.Refusal, at func(string) *authn.Refusal) []sample {
	empty := s.page(l, "account").WithMinLength(8).WithAccount(Account{})
	ann := Account{Name: "Ann", Email: "ann@example.com", Roles: []string{"user", "admin"}, Local: true}
	now := time.Now()
	for i, userAgent := range []string{"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "", "thing/1.0"} {
		ann.Sessions = append(ann.Sessions, empty.Session(authn.Session{
			ID: "id", UserAgent: userAgent, Address: "192.0.2.7", Created: now.Add(-time.Duration(i) * 40 * time.Hour), LastUsed: now,
		}, i == 0, now))
	}
	full := empty.WithAccount(ann)
	ann.Sessions = nil
	wants := []need{input("current_password"), input("new_password")}
	if s.links.Password != "" {
		wants = append(wants, leadsTo("action", s.links.Password))
	}
	rows := append([]need{input("session"), shows("session", full.Account.Sessions[0].Device)}, wants...)
	if s.links.Logout != "" {
		rows = append(rows, leadsTo("action", s.links.Logout))
	}
	return []sample{
		{empty, nil},
		{full.WithNotice("password_changed"), rows},
		{empty.WithAccount(ann), wants},
		{full.WithRefusal(whole), append([]need{shows("failure", full.WithRefusal(whole).Failure)}, rows...)},
		{full.WithRefusal(at("current_password")), rows},
		{full.WithRefusal(at("new_password")), rows},
	}
}

func (s *Set) refusals(l *language) (all []sample) {
	const id = "sample-request-id"
	wants := []need{shows("request id", id)}
	for _, refusal := range authn.Refusals() {
		bare := Refused{Refusal: refusal, Status: http.StatusForbidden, RequestID: id}
		full := bare
		full.Status, full.RetryAfter, full.Login, full.SignedIn = http.StatusServiceUnavailable, time.Minute, "/login?next=%2F", "ann@example.com"
		all = append(all,
			sample{s.errorPage(l, http.MethodGet, bare), wants},
			sample{s.errorPage(l, http.MethodGet, full), wants},
			sample{s.errorPage(l, http.MethodPost, full), wants},
		)
	}
	return all
}
