package pages

import (
	"net/http"
	"strings"
	"time"

	"gatehouse/authn"
)

// A Page is what a template shows. Its exported fields and methods are what
// templates can rely on; the README lists them.
type Page struct {
	Name     string // "login", "register", "account", "continue" or "error"
	Language string // BCP 47, for <html lang>
	Brand    string // endpoints.title; "" for none
	Logo     string // URL of endpoints.logo_file; "" for none
	Style    string // URL of the style sheet
	Script   string // URL of the script
	Links    Links

	// Notice is what was just done, "" for nothing.
	Notice string
	// Failure is what is wrong with a form as a whole, "" for nothing; what is
	// wrong with a field stands in the Field.
	Failure string

	Registration bool   // anybody may make an account
	Next         string // where to go after signing in, safe; "" for the start page

	Account *Account // of the account page
	Error   *Error   // of the error page

	form     form
	language *language
}

// form is what was typed, and what is wrong with it.
type form struct {
	values    map[string]string
	failures  map[string]string
	focus     string // the field to begin with
	minLength int    // of a new password
}

// An Account is whom the account page is about.
type Account struct {
	Name, Email string // "" where the token does not tell
	Initial     string // of the name, for a picture
	Roles       []string
	// Local accounts are kept by this gateway: they have sessions and a
	// password here.
	Local    bool
	Sessions []Session // the last used first
}

// A Session is one place where somebody is signed in.
type Session struct {
	ID                string
	Current           bool   // the session that asks
	Device            string // "Firefox on Android"
	Kind              string // "computer", "phone", "tablet" or "program"
	UserAgent         string // as it was sent
	Address           string // "" where it is not known
	Created, LastUsed Moment
}

// A Moment is a point in time in words.
type Moment struct {
	ISO      string // RFC 3339, for <time datetime>
	Date     string // "2 January 2006, 15:04 UTC"
	Relative string // "5 minutes ago"; Date where that is long ago
}

// A Field is one input of a form.
type Field struct {
	ID           string // and name
	Label, Type  string
	Autocomplete string // a token of the HTML standard
	Value        string // never of a password
	Hint         string
	Failure      string // what is wrong with it, "" for nothing
	DescribedBy  string // ids of the hint and of the failure
	Required     bool
	Focus        bool // the field to begin with
	MinLength    int  // of a new password, in characters; 0 for others

	language *language
}

// Say is a text in the page's language, as [Page.Say] is.
func (f Field) Say(key string, values ...any) (string, error) {
	return f.language.say(key, values...)
}

// Page begins a page for who sent r, in their language.
func (s *Set) Page(r *http.Request, name string) Page {
	return s.page(s.languageFor(r), name)
}

func (s *Set) page(l *language, name string) Page {
	p := Page{
		Name: name, Language: l.tag, Brand: s.brand, Links: s.links,
		Style: s.assets.style.url, Script: s.assets.script.url, language: l,
	}
	if s.assets.logo != nil {
		p.Logo = s.assets.logo.url
	}
	return p
}

// Say is a text in the page's language. values are names and values in turn,
// for its placeholders. A text that there is not is an error.
func (p Page) Say(key string, values ...any) (string, error) {
	return p.language.say(key, values...)
}

// Direction is "ltr" or "rtl", as the language is written.
func (p Page) Direction() string { return p.language.must("direction") }

// Title is the name of the page, and says whether something went wrong.
func (p Page) Title() string {
	var title string
	if p.Error != nil {
		title = p.Error.Title
	} else {
		title = p.language.must("title." + p.Name)
		if p.Failed() {
			title = p.language.must("title.failed", "title", title)
		}
	}
	if p.Brand != "" {
		title += " · " + p.Brand
	}
	return title
}

// Failed reports whether a form is shown again with something wrong.
func (p Page) Failed() bool { return p.Failure != "" || len(p.form.failures) > 0 }

// Field is the input of that name. autocomplete is what password managers go
// by: username, current-password, new-password, name.
func (p Page) Field(name, autocomplete string) Field {
	f := Field{
		ID: name, Label: p.language.must("label." + name), Type: "text", Autocomplete: autocomplete,
		Failure: p.form.failures[name], Required: name != "name", Focus: name == p.form.focus, language: p.language,
	}
	if strings.HasSuffix(autocomplete, "password") {
		f.Type = "password"
	} else {
		f.Value = p.form.values[name]
	}
	if autocomplete == "new-password" {
		f.MinLength = p.form.minLength
	}
	var described []string
	if f.MinLength > 0 {
		f.Hint = p.language.must("hint.password", "min", f.MinLength)
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

// WithFocus sets the field to begin with.
func (p Page) WithFocus(field string) Page {
	p.form.focus = field
	return p
}

// WithMinLength says how long a new password must be, in characters.
func (p Page) WithMinLength(n int) Page {
	p.form.minLength = n
	return p
}

// WithValue fills a field in, unless it is a password's.
func (p Page) WithValue(field, value string) Page {
	values := map[string]string{field: value}
	for f, v := range p.form.values {
		if f != field {
			values[f] = v
		}
	}
	p.form.values = values
	return p
}

// WithNotice says what was just done: it is the last part of a text's key,
// "notice.registered". There is no notice of another name.
func (p Page) WithNotice(name string) Page {
	p.Notice = p.language.texts["notice."+name]
	return p
}

// WithAccount is the page of an account. Sessions are put into words by
// [Page.Session].
func (p Page) WithAccount(a Account) Page {
	for _, r := range a.Name {
		a.Initial = strings.ToUpper(string(r))
		break
	}
	p.Account = &a
	return p
}

// Session puts one of the account's sessions into words, as they are true at
// now.
func (p Page) Session(s authn.Session, current bool, now time.Time) Session {
	d := deviceOf(s.UserAgent)
	return Session{
		ID: s.ID, Current: current, Device: d.words(p.language), Kind: d.kind, UserAgent: s.UserAgent, Address: s.Address,
		Created: p.language.moment(s.Created, now), LastUsed: p.language.moment(s.LastUsed, now),
	}
}
