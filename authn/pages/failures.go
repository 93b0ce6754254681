package pages

import (
	"slices"

	"gatehouse/authn"
)

// fields are the inputs of each form, the one for a new password last.
var fields = map[string][]string{
	"login":    {"email", "password"},
	"register": {"email", "name", "password"},
	"account":  {"current_password", "new_password"},
}

// WithRefusal is the form again, with what was wrong: at the field that it is
// about, where the page has that, else above the form.
func (p Page) WithRefusal(refusal *authn.Refusal) Page {
	own := fields[p.Name]
	newPassword := own[len(own)-1]
	at, text := "", ""
	switch f := refusal.Fault; {
	case f != nil:
		at = f.Field
		if at == "password" {
			at = newPassword
		}
		values := make([]any, 0, 2*len(f.Values))
		for name, value := range f.Values {
			values = append(values, name, value)
		}
		text = p.language.must("fault."+f.Name, values...)
	case refusal.Code == authn.ErrUserExists.Code:
		at, text = "email", p.language.must("fault.user_exists")
	case refusal.Code == authn.ErrInvalidCredentials.Code && p.Name == "account":
		at, text = "current_password", p.language.must("fault.current_password")
	default:
		text = p.language.must("error." + refusal.Code + ".text")
		if wait := p.language.wait(refusal.RetryAfter); wait != "" {
			text += " " + wait
		}
	}
	if !slices.Contains(own, at) {
		p.Failure = text
		return p
	}
	p.form.failures = map[string]string{at: text}
	return p.WithFocus(at)
}
