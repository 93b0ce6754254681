package proxy

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"gatehouse/authn"
	"gatehouse/config"
)

// A headerSet is the identity headers of one route, compiled.
type headerSet struct {
	headers   []identityHeader
	separator string // between roles
	utf8      bool   // leave non-ASCII as it is
}

type identityHeader struct {
	name     string // in canonical form
	template config.Template
}

// compileIdentity compiles the identity headers of a route.
func compileIdentity(c *config.Config, rt *config.Route) (headerSet, error) {
	set := headerSet{separator: c.Identity.RolesSeparator, utf8: c.Identity.Encoding == "utf8"}
	for name, text := range c.IdentityHeaders(rt) {
		template, err := config.ParseTemplate(text)
		if err != nil {
			return set, fmt.Errorf("identity header %q: %w", name, err)
		}
		set.headers = append(set.headers, identityHeader{http.CanonicalHeaderKey(name), template})
	}
	slices.SortFunc(set.headers, func(a, b identityHeader) int { return cmp.Compare(a.name, b.name) })
	return set, nil
}

// set puts the headers about id into out. A header without a value is left out.
//
// The values are made once for each token (and header set: routes with the same
// one share it) and kept with the identity. Making them anew for each request
// was 2.5 % of a forwarded one.
func (set *headerSet) set(out http.Header, id *authn.Identity) {
	values := id.Kept(set)
	if values == nil {
		values = set.renderAll(id)
		id.Keep(set, values)
	}
	for i, h := range set.headers {
		if values[i] != "" {
			out[h.name] = values[i : i+1 : i+1] // nobody appends to what is kept
		}
	}
}

// renderAll returns the value of each header, "" for none.
func (set *headerSet) renderAll(id *authn.Identity) []string {
	values := make([]string, len(set.headers))
	for i, h := range set.headers {
		values[i] = set.render(h.template, id)
	}
	return values
}

// headerSets are the sets of a configuration, each once. That of a route
// without headers of its own is at "".
type headerSets map[string]*headerSet

// compile is compileIdentity, and returns the set that another route has, if
// that is the same.
func (all headerSets) compile(c *config.Config, rt *config.Route) (*headerSet, error) {
	if set := all[""]; set != nil && len(rt.IdentityHeaders) == 0 {
		return set, nil
	}
	set, err := compileIdentity(c, rt)
	if err != nil {
		return nil, err
	}
	key := fmt.Sprintf("%q", set.headers)
	if all[key] == nil {
		all[key] = &set
	}
	if len(rt.IdentityHeaders) == 0 {
		all[""] = all[key]
	}
	return all[key], nil
}

// render fills in a template. It is empty where every placeholder is.
func (set *headerSet) render(template config.Template, id *authn.Identity) string {
	var b strings.Builder
	placeholders, filled := 0, 0
	for _, part := range template {
		if part.Text != "" {
			b.WriteString(part.Text)
			continue
		}
		placeholders++
		if value := set.value(part, id); value != "" {
			filled++
			b.WriteString(value)
		}
	}
	if placeholders > 0 && filled == 0 {
		return ""
	}
	return b.String()
}

func (set *headerSet) value(part config.Part, id *authn.Identity) string {
	switch part.Field {
	case "id":
		return set.encode(id.ID, "")
	case "email":
		return set.encode(id.Email, "")
	case "name":
		return set.encode(id.Name, "")
	case "roles":
		return set.join(id.Roles)
	default:
		return set.claim(id.Claim(part.Claim))
	}
}

func (set *headerSet) claim(claim any) string {
	switch v := claim.(type) {
	case nil:
		return ""
	case string:
		return set.encode(v, "")
	case []any:
		var words []string
		for _, one := range v {
			switch one.(type) {
			case string, bool, json.Number:
				words = append(words, fmt.Sprint(one))
			}
		}
		return set.join(words)
	case bool, json.Number, int64, float64:
		return fmt.Sprint(v)
	}
	return "" // an object has no form that a header could carry
}

// join encodes each word, the separator inside of it included, so that no role
// can pass for two.
func (set *headerSet) join(words []string) string {
	encoded := make([]string, len(words))
	for i, word := range words {
		encoded[i] = set.encode(word, set.separator)
	}
	return strings.Join(encoded, set.separator)
}

// encode percent-encodes what could break a header or be taken for something
// else: bytes outside printable ASCII, "%", outer spaces, the separator. With utf8
// it leaves what of Unicode can be seen: an app may take blanks off a value's ends,
// and some of it for the end of a line.
func (set *headerSet) encode(s, separator string) string {
	plain := true
	for i := 0; i < len(s) && plain; i++ {
		plain = s[i] < utf8.RuneSelf && passes(s, i, separator)
	}
	if plain {
		return s
	}
	var b strings.Builder
	for i, size := 0, 0; i < len(s); i += size {
		var r rune
		r, size = utf8.DecodeRuneInString(s[i:])
		if r < utf8.RuneSelf && passes(s, i, separator) || size > 1 && set.utf8 && unicode.IsPrint(r) {
			b.WriteString(s[i : i+size])
			continue
		}
		for _, c := range []byte(s[i : i+size]) {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// passes reports whether the ASCII character at i may stay.
func passes(s string, i int, separator string) bool {
	switch c := s[i]; {
	case c < ' ', c == 0x7f, c == '%':
		return false
	case c == ' ':
		return i > 0 && i < len(s)-1
	default:
		return !strings.Contains(separator, string(c))
	}
}
