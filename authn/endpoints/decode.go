package endpoints

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"gatehouse/authn"
)

// maxBody bounds what a request to an endpoint may carry.
const maxBody = 64 << 10

// A field is one member of a request: an endpoint takes the fields it lists
// and no others.
type field struct {
	name string
	kind kind
}

type kind int

const (
	text     kind = iota // must be there and not be empty
	optional             // may be left out
	flag                 // true or false; left out is false
	others               // not a field: those that are not listed are passed over (RFC 6749, section 3.2)
)

// nextField is the one field that every form may carry and no JSON: where a
// browser goes afterwards. It is free text here and judged where it is used.
const nextField = "next"

// input is a request that was decoded.
type input struct {
	// browser: a form that a browser posts and whose answer it shows.
	browser bool
	values  map[string]string
}

func (in input) text(name string) string { return in.values[name] }
func (in input) flag(name string) bool   { return in.values[name] == "true" }

// decode reads the body of r. No error ever holds a value or a name from it: a
// password with a "&" in it would be both. With an error, input has what could
// be read nevertheless, to fill in a page again.
//
// The query is not read: /login?email=…&password=… would stand in logs and
// browser histories.
func decode(w http.ResponseWriter, r *http.Request, fields ...field) (input, error) {
	in := input{values: map[string]string{}}
	isForm, media := mediaType(r)
	in.browser = isForm && authn.CallerOf(r.Context()).Navigates
	if media == unknownMedia {
		return in, authn.ErrUnsupportedMedia
	}
	if r.ContentLength > maxBody {
		return in, authn.ErrBodyTooLarge
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		if _, large := errors.AsType[*http.MaxBytesError](err); large {
			return in, authn.ErrBodyTooLarge
		}
		return in, authn.ErrInvalidRequest.Saying("The body could not be read").Because(err)
	}
	if media == noMedia && len(data) > 0 {
		return in, authn.ErrUnsupportedMedia.Because(errors.New("body without Content-Type"))
	}
	in.values, err = parse(data, isForm, fields)
	return in, err
}

type media int

const (
	unknownMedia media = iota
	noMedia            // no Content-Type at all
	knownMedia
)

// mediaType reads Content-Type: JSON or a form, in UTF-8 and not compressed.
func mediaType(r *http.Request) (isForm bool, m media) {
	if enc := r.Header.Get("Content-Encoding"); enc != "" && !strings.EqualFold(enc, "identity") {
		return false, unknownMedia
	}
	types := r.Header["Content-Type"]
	if len(types) == 0 {
		return false, noMedia
	}
	if len(types) > 1 {
		return false, unknownMedia
	}
	t, params, err := mime.ParseMediaType(types[0])
	if err != nil || t != "application/json" && t != "application/x-www-form-urlencoded" {
		return false, unknownMedia
	}
	for name, value := range params {
		if name != "charset" || !strings.EqualFold(value, "utf-8") {
			return false, unknownMedia
		}
	}
	return t != "application/json", knownMedia
}

// parse reads the fields out of a body. On success the map has all that must
// be there, nothing that is not listed, and only valid text.
func parse(data []byte, isForm bool, fields []field) (map[string]string, error) {
	p := parser{values: map[string]string{}}
	for _, f := range fields {
		if f.kind == others {
			p.others = true
		} else {
			p.fields = append(p.fields, f)
		}
	}
	var err error
	switch {
	case !utf8.Valid(data):
		err = invalid("The body is not UTF-8")
	case isForm:
		err = p.form(string(data))
	case len(data) > 0:
		err = p.json(data)
	}
	if err != nil {
		return p.values, err
	}
	for _, f := range p.fields {
		if f.kind == text && p.values[f.name] == "" {
			missing := invalid(f.name + ": missing")
			missing.Fault = authn.Missing(f.name)
			return p.values, missing
		}
	}
	return p.values, nil
}

type parser struct {
	fields []field
	others bool // fields that are not listed are passed over
	values map[string]string
}

// json reads one JSON object of texts and booleans. encoding/json alone would
// take the last of two equal keys, any case of a key, a second document after
// the first, and would turn what is no Unicode into U+FFFD, so that different
// passwords become equal.
func (p *parser) json(data []byte) error {
	if !json.Valid(data) {
		return invalid("The body is not one JSON document")
	}
	if loneSurrogate(data) {
		return invalid("The body holds half of a surrogate pair")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return invalid("The body is not a JSON object")
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return invalid("The body is not one JSON document").Because(err)
		}
		f, err := p.field(key.(string)) // a key of valid JSON is always a string
		if err != nil {
			return err
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return invalid(f.name + ": not valid JSON").Because(err)
		}
		if f.kind == others {
			continue
		}
		if err := p.value(f, raw); err != nil {
			return err
		}
	}
	return nil
}

// value keeps a JSON value if it has its field's type.
func (p *parser) value(f field, raw json.RawMessage) error {
	if f.kind == flag {
		if s := string(raw); s == "true" || s == "false" {
			p.values[f.name] = s
			return nil
		}
		return invalid(f.name + ": want true or false")
	}
	if raw[0] != '"' {
		return invalid(f.name + ": want a text")
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return invalid(f.name + ": want a text")
	}
	return p.keep(f, s)
}

// form reads an URL-encoded form.
func (p *parser) form(data string) error {
	values, err := url.ParseQuery(data)
	if err != nil {
		return invalid("The form is not well encoded") // err quotes the escape, perhaps out of a password
	}
	// The fields in their order, so that the same form has always the same error.
	for _, f := range append(p.fields[:len(p.fields):len(p.fields)], field{nextField, optional}) {
		v, ok := values[f.name]
		if !ok {
			continue
		}
		delete(values, f.name)
		if len(v) > 1 {
			return invalid(f.name + ": given twice")
		}
		switch {
		case f.name == nextField:
			p.values[nextField] = v[0]
			continue
		case !utf8.ValidString(v[0]):
			return invalid(f.name + ": not UTF-8")
		case f.kind == flag && v[0] != "true" && v[0] != "false":
			return invalid(f.name + ": want true or false")
		}
		if err := p.keep(f, v[0]); err != nil {
			return err
		}
	}
	if len(values) > 0 && !p.others {
		return p.unknown()
	}
	return nil
}

// field finds the field of a JSON key, which may come once.
func (p *parser) field(name string) (field, error) {
	for _, f := range p.fields {
		if f.name != name {
			continue
		}
		if _, twice := p.values[name]; twice {
			return f, invalid(name + ": given twice")
		}
		return f, nil
	}
	if p.others {
		return field{kind: others}, nil
	}
	return field{}, p.unknown()
}

func (p *parser) unknown() error {
	names := make([]string, len(p.fields))
	for i, f := range p.fields {
		names[i] = f.name
	}
	return invalid("Unknown field: want only " + strings.Join(names, ", "))
}

// keep takes a text. Control characters are nobody's to type: they are how
// lines are forged in logs and headers, and NUL ends a password early.
func (p *parser) keep(f field, s string) error {
	if strings.ContainsFunc(s, unicode.IsControl) {
		r := invalid(f.name + ": control characters are not accepted")
		r.Fault = authn.Control(f.name)
		return r
	}
	p.values[f.name] = s
	return nil
}

// loneSurrogate finds \ud800 to \udfff that is no pair in valid JSON.
func loneSurrogate(data []byte) bool {
	for i := 0; i < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		i++ // what is escaped; in valid JSON there is something
		if data[i] != 'u' {
			continue
		}
		switch u := utf16At(data, i+1); {
		case u >= 0xdc00 && u <= 0xdfff:
			return true
		case u >= 0xd800 && u <= 0xdbff:
			low := i + 5
			if !bytes.HasPrefix(data[low:], []byte(`\u`)) {
				return true
			}
			if l := utf16At(data, low+2); l < 0xdc00 || l > 0xdfff {
				return true
			}
			i = low + 1
		}
		i += 4
	}
	return false
}

// utf16At reads four hex digits.
func utf16At(data []byte, i int) uint64 {
	u, _ := strconv.ParseUint(string(data[i:i+4]), 16, 16) // they are, in valid JSON
	return u
}

func invalid(message string) *authn.Refusal { return authn.ErrInvalidRequest.Saying(message) }
