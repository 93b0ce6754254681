package config

import (
	"fmt"
	"net/netip"
	"reflect"
	"sort"
	"strings"
	"sync"
	"time"

	"gopkg.in/yaml.v3"
)

// decoder turns nodes into the types of this package and goes on after each
// mistake, so that one run tells them all.
type decoder struct {
	*source
	lookup   func(string) (string, bool)
	problems []Problem
	failed   map[string]bool   // keys that have a Problem already
	texts    map[string]string // values, each once: thousands of routes say much the same
	keys     map[reflect.Type]map[string]int
}

func newDecoder(file string, lookup func(string) (string, bool)) *decoder {
	return &decoder{
		source: &source{file: file, hidden: map[string]bool{}, expanded: map[string]bool{}},
		lookup: lookup, failed: map[string]bool{}, texts: map[string]string{}, keys: map[reflect.Type]map[string]int{},
	}
}

func (d *decoder) positionOf(n *yaml.Node) Position {
	return Position{File: d.file, Line: n.Line, Column: n.Column}
}

func (d *decoder) report(at Position, text, hint string) {
	at.File = d.file
	d.problems = append(d.problems, Problem{Pos: at, Text: text, Hint: hint})
}

// fail records a problem with the value of key. Later rules say nothing more
// about a key that failed.
func (d *decoder) fail(key string, n *yaml.Node, text, hint string) {
	at, ok := d.at(key)
	if !ok {
		at = d.positionOf(n)
	}
	d.report(at, text, hint)
	d.failed[key] = true
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	prefixType   = reflect.TypeFor[netip.Prefix]()
	secretType   = reflect.TypeFor[Secret]()
	accessType   = reflect.TypeFor[Access]()
	upstreamType = reflect.TypeFor[[]Upstream]()
	anyType      = reflect.TypeFor[any]()
	expectType   = reflect.TypeFor[Expect]()
)

// decode fills v, which holds its default, from n. key is where n stands.
func (d *decoder) decode(n *yaml.Node, key string, v reflect.Value) {
	if n.Kind == yaml.AliasNode || n.Style&yaml.TaggedStyle != 0 {
		d.failed[key] = true // reported by checkNodes
		return
	}
	switch t := v.Type(); {
	case t == accessType:
		d.decodeAccess(n, key, v)
	case t == upstreamType && n.Kind == yaml.ScalarNode:
		list := []Upstream{defaultUpstream()}
		d.decodeScalar(n, key, reflect.ValueOf(&list[0].URL).Elem())
		v.Set(reflect.ValueOf(list))
	case t == prefixType:
		d.decodeScalar(n, key, v)
	case t == anyType && n.Kind == yaml.SequenceNode && strings.HasPrefix(key, "tests["):
		list := []any{} // a test's user may have a claim that is a list
		d.decodeList(n, key, reflect.ValueOf(&list).Elem())
		v.Set(reflect.ValueOf(list))
	case t.Kind() == reflect.Pointer:
		v.Set(reflect.New(t.Elem()))
		d.decode(n, key, v.Elem())
	case t.Kind() == reflect.Struct:
		d.decodeStruct(n, key, v)
	case t.Kind() == reflect.Slice:
		d.decodeList(n, key, v)
	case t.Kind() == reflect.Map:
		d.decodeMap(n, key, v)
	default:
		d.decodeScalar(n, key, v)
	}
}

func (d *decoder) decodeStruct(n *yaml.Node, key string, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.fail(key, n, fmt.Sprintf("%s: want a mapping, got %s", key, kindOf(n)), "")
		return
	}
	if pos := v.FieldByName("Pos"); pos.IsValid() {
		pos.Set(reflect.ValueOf(d.positionOf(n)))
	}
	fields := d.keysOf(v.Type())
	d.entries(n, key, func(name *yaml.Node, value *yaml.Node, at string) {
		i, ok := fields[name.Value]
		if !ok {
			d.unknownKey(name, key, v.Type())
			return
		}
		d.decode(value, at, v.Field(i))
	})
}

// entries calls each for the keys of a mapping that checkNodes accepted.
func (d *decoder) entries(n *yaml.Node, key string, each func(name, value *yaml.Node, at string)) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if name := n.Content[i]; name.Kind == yaml.ScalarNode && name.Value != "<<" {
			each(name, n.Content[i+1], join(key, name.Value))
		}
	}
}

func (d *decoder) unknownKey(name *yaml.Node, section string, t reflect.Type) {
	var known []string
	for k := range fieldsOf(t) {
		known = append(known, k)
	}
	sort.Strings(known)
	hint := ""
	if meant := nearest(name.Value, known); meant != "" {
		hint = fmt.Sprintf("did you mean %q?", meant)
		d.failed[join(section, meant)] = true
	} else if home := homes()[name.Value]; home != "" {
		hint = fmt.Sprintf("did you mean %q?", home)
	}
	d.report(d.positionOf(name), fmt.Sprintf("unknown key %q", shorten(name.Value)), hint)
}

func (d *decoder) decodeList(n *yaml.Node, key string, v reflect.Value) {
	if n.Kind != yaml.SequenceNode {
		text, hint := fmt.Sprintf("%s: want a list, got %s", key, kindOf(n)), ""
		switch {
		case v.Type() == upstreamType:
			text = fmt.Sprintf("%s: want a URL or a list of {url, weight}, got %s", key, kindOf(n))
		case kindOf(n) == "text":
			hint = "a list with one item is written [item]"
		}
		d.fail(key, n, text, hint)
		return
	}
	if len(n.Content) > maxItems {
		d.fail(key, n, fmt.Sprintf("%s: want at most %d items", key, maxItems), "")
		return
	}
	list := reflect.MakeSlice(v.Type(), 0, len(n.Content))
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", key, i)
		element := newElement(v.Type().Elem())
		d.decode(item, at, element)
		list = reflect.Append(list, element)
	}
	v.Set(list)
}

// newElement is what an item of a list is before its keys are read.
func newElement(t reflect.Type) reflect.Value {
	v := reflect.New(t).Elem()
	switch p := v.Addr().Interface().(type) {
	case *Route:
		*p = defaultRoute()
	case *Upstream:
		*p = defaultUpstream()
	case *TrustedIssuer:
		*p = defaultTrustedIssuer()
	}
	return v
}

func (d *decoder) decodeMap(n *yaml.Node, key string, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.fail(key, n, fmt.Sprintf("%s: want a mapping, got %s", key, kindOf(n)), "")
		return
	}
	m := reflect.MakeMap(v.Type())
	d.entries(n, key, func(name *yaml.Node, value *yaml.Node, at string) {
		element := reflect.New(v.Type().Elem()).Elem()
		d.decode(value, at, element)
		m.SetMapIndex(reflect.ValueOf(name.Value), element)
	})
	v.Set(m)
}

// decodeAccess reads a word, or a mapping whose keys must all hold.
func (d *decoder) decodeAccess(n *yaml.Node, key string, v reflect.Value) {
	switch n.Kind {
	case yaml.MappingNode:
		v.Set(reflect.ValueOf(Access{Kind: AccessRestricted}))
		d.decodeStruct(n, key, v)
	case yaml.ScalarNode:
		d.decodeScalar(n, key, v.FieldByName("Kind"))
	default:
		d.fail(key, n, fmt.Sprintf("%s: want %s, got %s", key, accessWanted, kindOf(n)), "")
	}
}

const accessWanted = "public, optional, authenticated, or a mapping such as {roles: [admin]}"

func (d *decoder) decodeScalar(n *yaml.Node, key string, v reflect.Value) {
	secret := v.Type() == secretType || mayHoldSecret(key)
	if secret {
		d.hidden[key] = true
	}
	switch {
	case n.Kind != yaml.ScalarNode:
		d.fail(key, n, fmt.Sprintf("%s: want %s, got %s", key, nameOf(v.Type()), kindOf(n)), "")
		return
	case isNull(n):
		d.fail(key, n, key+": no value", "leave the key out for its default")
		return
	}
	s := scalar{quoted: n.Style&quotedStyles != 0}
	var problem string
	s.text, s.expanded, problem = expand(n.Value, secret, d.lookup)
	if problem != "" {
		d.fail(key, n, key+": "+problem, "")
		return
	}
	if s.expanded {
		d.expanded[key] = true
	}
	if known, ok := d.texts[s.text]; ok {
		s.text = known
	} else {
		d.texts[s.text] = s.text
	}
	if err := setScalar(v, s); err != nil {
		text := fmt.Sprintf("%s %s: %s", key, d.quote(key, ""), err)
		if secret {
			text = key + ": " + err.Error()
		}
		d.fail(key, n, text, hintOf(err))
	}
}

// mayHoldSecret tells values that are shown in no message although they are
// no Secret: credentials stand in URLs and in headers for the upstream.
func mayHoldSecret(key string) bool {
	return key == "users.database" || strings.HasPrefix(key, "revocation.redis.") ||
		strings.HasPrefix(key, "routes[") && strings.Contains(key, ".set_headers.")
}

func nameOf(t reflect.Type) string {
	switch {
	case t == durationType:
		return "a duration"
	case t == prefixType:
		return "a network"
	case t == anyType:
		return "text, a number or a boolean"
	case t.Kind() == reflect.Bool:
		return "a boolean"
	case t.Kind() == reflect.Int || t.Kind() == reflect.Int64:
		return "a whole number"
	}
	return "text"
}

func setScalar(v reflect.Value, s scalar) error {
	switch t := v.Type(); {
	case t == durationType:
		return set(v, s, parseDuration)
	case t == prefixType:
		return set(v, s, parsePrefix)
	case t == anyType:
		return set(v, s, parseAny)
	case t == secretType:
		v.SetString(s.text) // a secret may be any bytes
		return nil
	case t.Kind() == reflect.Bool:
		return set(v, s, parseBool)
	case t.Kind() == reflect.Int || t.Kind() == reflect.Int64:
		whole, err := parseWhole(s, t.Bits())
		if err == nil {
			v.SetInt(whole)
		}
		return err
	default:
		return set(v, s, parseText)
	}
}

func set[T any](v reflect.Value, s scalar, parse func(scalar) (T, error)) error {
	x, err := parse(s)
	if err == nil {
		v.Set(reflect.ValueOf(x))
	}
	return err
}

func join(section, name string) string {
	if section == "" {
		return name
	}
	return section + "." + name
}

// keysOf is fieldsOf, remembered: a file can have thousands of routes.
func (d *decoder) keysOf(t reflect.Type) map[string]int {
	if d.keys[t] == nil {
		d.keys[t] = fieldsOf(t)
	}
	return d.keys[t]
}

// fieldsOf maps the keys of a section to the fields of its type.
func fieldsOf(t reflect.Type) map[string]int {
	fields := make(map[string]int, t.NumField())
	for i := range t.NumField() {
		if tag := t.Field(i).Tag.Get("yaml"); tag != "" && tag != "-" {
			fields[tag] = i
		}
	}
	return fields
}

// homes maps a name to its full key, where that is in one section only.
var homes = sync.OnceValue(func() map[string]string {
	found := map[string]string{}
	walkKeys(reflect.TypeFor[Config](), "", func(key string, _ reflect.Type) {
		name := key[strings.LastIndexByte(key, '.')+1:]
		if _, twice := found[name]; twice || strings.Contains(key, "[") {
			key = ""
		}
		found[name] = key
	})
	return found
})

// walkKeys calls each for every key of a type, in the order of its fields.
// The items of a list are at "KEY[]".
func walkKeys(t reflect.Type, prefix string, each func(key string, t reflect.Type)) {
	for i := range t.NumField() {
		tag := t.Field(i).Tag.Get("yaml")
		if tag == "" || tag == "-" {
			continue
		}
		key, ft := join(prefix, tag), t.Field(i).Type
		each(key, ft)
		if ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		if ft.Kind() == reflect.Slice && ft.Elem().Kind() == reflect.Struct && ft.Elem() != prefixType {
			key, ft = key+"[]", ft.Elem()
		}
		if ft.Kind() == reflect.Struct && ft != prefixType {
			walkKeys(ft, key, each)
		}
	}
}
