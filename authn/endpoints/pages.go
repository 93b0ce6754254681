package endpoints

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"gatehouse/authn"
)

//go:embed templates/*.html templates/style.css
var files embed.FS

// policy lets a page load its style sheet and images of this gateway, and post
// its forms to it. No script runs, and nobody may frame it.
const policy = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// pages are the templates, each with the layout around it.
type pages struct {
	title     string
	templates map[string]*template.Template
	style     asset
}

func parsePages(title string) (pages, error) {
	p := pages{title: title, templates: map[string]*template.Template{}}
	for _, name := range []string{"login.html", "register.html", "account.html"} {
		t, err := template.ParseFS(files, "templates/layout.html", "templates/"+name)
		if err != nil {
			return p, err
		}
		p.templates[name] = t
	}
	style, err := files.ReadFile("templates/style.css")
	p.style = newAsset("text/css; charset=utf-8", style)
	return p, err
}

// links are the paths that pages lead to, at the root where they are served
// there.
type links struct{ Login, Register, Logout, Password, Account, Style string }

// A page is what a template shows.
type page struct {
	Title     string
	Links     links
	Open      bool   // registration
	MinLength int    // of a new password
	Next      string // safe, or ""
	Notice    string

	Email, Name string            // to fill in
	Failure     string            // of the form as a whole
	Failures    map[string]string // by field
	Focus       string            // the field to begin with

	User     *authn.Identity
	Local    bool // the user's account is kept here
	Sessions []sessionRow
}

type sessionRow struct {
	ID                         string
	Current                    bool
	Device, UserAgent, Address string
	Created, LastUsed          time.Time
}

// page begins a page that leads on to next.
func (e *Endpoints) page(next string) page {
	p := page{Title: e.pages.title, Links: e.links, Open: e.service.RegistrationOpen, MinLength: e.service.Policy.MinLength}
	if to := e.destination(next); to != "/" {
		p.Next = to
	}
	return p
}

// notices are what a page can say after a redirect. The query names one; what
// else it holds is never shown.
var notices = map[string]string{
	"registered":       "Your account was created. Sign in with it now.",
	"password_changed": "Your password was changed. All other sessions were signed out.",
	"session_ended":    "The session was signed out.",
}

func noticeOf(r *http.Request) string { return notices[r.URL.Query().Get("notice")] }

// fieldView is one labelled input.
type fieldView struct {
	Name, Label, Type, Autocomplete, Value, Hint string
	Failure                                      string
	DescribedBy                                  string
	Required, Focus                              bool
}

// Field is the input of that name, with what is wrong with it.
func (p page) Field(name, label, kind, autocomplete string) fieldView {
	f := fieldView{
		Name: name, Label: label, Type: kind, Autocomplete: autocomplete,
		Failure: p.Failures[name], Required: name != "name", Focus: name == p.Focus,
	}
	switch {
	case name == "email":
		f.Value = p.Email
	case name == "name":
		f.Value = p.Name
	case autocomplete == "new-password" && p.MinLength > 0:
		f.Hint = fmt.Sprintf("At least %d characters. A few unusual words are better than one with digits.", p.MinLength)
	}
	var described []string
	if f.Hint != "" {
		described = append(described, name+"-hint")
	}
	if f.Failure != "" {
		described = append(described, name+"-error")
	} else if p.Failure != "" {
		described = append(described, "failure")
	}
	f.DescribedBy = strings.Join(described, " ")
	return f
}

// show writes a page.
func (e *Endpoints) show(w http.ResponseWriter, status int, name string, p page) error {
	var b bytes.Buffer
	if err := e.pages.templates[name].ExecuteTemplate(&b, "layout.html", p); err != nil {
		return fmt.Errorf("page %s: %w", name, err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "same-origin")
	h.Set("X-Frame-Options", "DENY")
	w.WriteHeader(status)
	w.Write(b.Bytes()) // an error here is the client's going away
	return nil
}

// shown are the refusals that a form can show, with their statuses. What the
// person at the form cannot help is left to the gateway's error page.
var shown = map[string]int{
	authn.ErrInvalidRequest.Code:     http.StatusBadRequest,
	authn.ErrWeakPassword.Code:       http.StatusBadRequest,
	authn.ErrUserExists.Code:         http.StatusBadRequest,
	authn.ErrInvalidCredentials.Code: http.StatusBadRequest,
	authn.ErrTooManyAttempts.Code:    http.StatusTooManyRequests,
	authn.ErrBusy.Code:               http.StatusServiceUnavailable,
}

// formFields are the inputs of each page, the one for a new password last.
var formFields = map[string][]string{
	"login.html":    {"email", "password"},
	"register.html": {"email", "name", "password"},
	"account.html":  {"current_password", "new_password"},
}

// again shows a form once more to the browser that posted it, with what was
// wrong. Programs, and what no form can show, get the error.
func (e *Endpoints) again(w http.ResponseWriter, in input, name string, p page, err error) error {
	refusal := authn.AsRefusal(err)
	status, ok := shown[refusal.Code]
	if !ok || !in.browser {
		return err
	}
	if at, message := fieldOf(refusal, name); at != "" {
		p.Failures, p.Focus = map[string]string{at: sentence(message)}, at
	} else {
		p.Failure = sentence(message)
	}
	if refusal.RetryAfter > 0 {
		wait := (refusal.RetryAfter + time.Second - 1) / time.Second
		w.Header().Set("Retry-After", strconv.FormatInt(int64(wait), 10))
	}
	return e.show(w, status, name, p)
}

// fieldOf finds the input of a page that a refusal is about, "" for none, and
// what to say there. Messages begin with the name of the field they are about.
func fieldOf(refusal *authn.Refusal, page string) (name, message string) {
	fields := formFields[page]
	newPassword := fields[len(fields)-1]
	switch refusal.Code {
	case authn.ErrUserExists.Code:
		return "email", refusal.Message
	case authn.ErrWeakPassword.Code:
		return newPassword, refusal.Message
	case authn.ErrInvalidCredentials.Code:
		if page == "account.html" {
			return "current_password", "This is not your password"
		}
		return "", refusal.Message
	}
	name, _, _ = strings.Cut(refusal.Message, " ")
	message = refusal.Message
	if of, colon := strings.CutSuffix(name, ":"); colon { // "email: missing"
		name, message = of, strings.TrimPrefix(message, of+": ")
	}
	if name == "password" {
		name = newPassword
	}
	if !slices.Contains(fields, name) {
		return "", refusal.Message
	}
	return name, message
}

// sentence begins with a capital letter.
func sentence(s string) string {
	r, n := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(r)) + s[n:]
}
