package authn

import (
	"errors"
	"fmt"
	"strings"
)

// A Fault is what is wrong with a text that somebody typed. Error says it in
// English; Name and Values let a page say it in the reader's language.
type Fault struct {
	Field  string            // the form's input, "password"; "" where only the caller knows
	Name   string            // one of FaultNames
	Values map[string]string // for the {placeholders} of the text
}

func (f *Fault) Error() string {
	text := faults[f.Name]
	for name, value := range f.Values {
		text = strings.ReplaceAll(text, "{"+name+"}", value)
	}
	return text
}

// At returns a copy that is about a field.
func (f *Fault) At(field string) *Fault {
	c := *f
	c.Field = field
	return &c
}

// faultOf is the Fault in err, or nil.
func faultOf(err error) *Fault {
	f, _ := errors.AsType[*Fault](err)
	return f
}

// fault is one of faults. values are names and values in turn.
func fault(name string, values ...any) *Fault {
	f := &Fault{Name: name}
	for i := 0; i < len(values); i += 2 {
		if f.Values == nil {
			f.Values = map[string]string{}
		}
		f.Values[values[i].(string)] = fmt.Sprint(values[i+1])
	}
	return f
}

// Missing is the Fault of a field that was left empty.
func Missing(field string) *Fault { return fault("missing").At(field) }

// Control is the Fault of a field with control characters.
func Control(field string) *Fault { return fault("control").At(field) }

// FaultTexts are the faults there are, with their English texts, for whoever
// must know them all.
func FaultTexts() map[string]string {
	all := make(map[string]string, len(faults))
	for name, text := range faults {
		all[name] = text
	}
	return all
}

// faults are the texts by name. The name of the field goes before them.
var faults = map[string]string{
	"missing": "missing",
	"utf8":    "must be valid UTF-8",
	"control": "must have no control characters",

	"email_empty":       "must not be empty",
	"email_long":        "must be at most {max} bytes",
	"email_at":          `must have exactly one "@", as in ann@example.com`,
	"email_no_user":     `must have a name before the "@"`,
	"email_user_long":   `must have at most {max} bytes before the "@"`,
	"email_user_dots":   `must have no dot at an end of the name before the "@" and no two in a row`,
	"email_domain":      "must have a domain that can exist",
	"email_no_domain":   `must have a domain after the "@"`,
	"email_domain_dots": `must have no dot at an end of the domain and no two in a row`,
	"email_label_long":  "must have at most {max} bytes between two dots of the domain",
	"email_hyphen":      "must have no hyphen at an end of a part of the domain",
	"email_unusual":     "must be spelled with usual characters",
	"email_scripts":     "must not mix {scripts} letters in one word",
	"email_blank":       "must have no blanks inside",
	"email_character":   "must not have the character {character}",

	"name_long":      "must be at most {max} characters",
	"name_invisible": "must have no control or invisible characters",
	"name_at":        `must have no "@", unless it is the account's own address`,

	"password_empty":       "password must not be empty",
	"password_utf8":        "password must be valid UTF-8",
	"password_replacement": "password must not have the replacement character U+FFFD",
	"password_control":     "password must not have control characters",
	"password_long":        "password must be at most {max} bytes; this one has {bytes}",
	"password_short":       "password must have at least {min} characters; this one has {characters}",
	"password_weak":        "password is too easy to guess: strength {strength} of 4, wanted is {wanted}; use more words, or less common ones",
}
