package config

import (
	_ "embed"
	"encoding/json"
	"reflect"
	"strings"
	"time"
)

//go:embed reference.yaml
var reference []byte

// Schema is the JSON Schema (2020-12) of gateway.yaml, for editors.
func Schema() []byte {
	s := schema{descriptions: descriptions()}
	top := s.section(reflect.ValueOf(defaults()).Elem(), "")
	top["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	top["title"] = "gateway.yaml of Gatehouse"
	out, err := json.MarshalIndent(top, "", "  ")
	if err != nil {
		panic(err) // maps of strings, numbers and booleans always marshal
	}
	return append(out, '\n')
}

// descriptions are the comments of reference.yaml by key, "routes[].path" say.
func descriptions() map[string]string {
	d := newDecoder("reference.yaml", nil)
	d.decode(d.document(reference), "", reflect.ValueOf(defaults()).Elem())
	lines := strings.Split(string(reference), "\n")
	found := map[string]string{}
	walkKeys(reflect.TypeFor[Config](), "", func(general string, _ reflect.Type) {
		d.each(general, func(key string) {
			at, _ := d.at(key)
			if _, comment, ok := strings.Cut(lines[at.Line-1], " # "); ok && found[general] == "" {
				found[general] = comment
			}
		})
	})
	return found
}

type object = map[string]any

type schema struct{ descriptions map[string]string }

// requiredKeys are those without a default, by section.
var requiredKeys = map[string][]string{
	"":                    {"routes"},
	"routes[]":            {"upstream"},
	"routes[].upstream[]": {"url"},
	"tokens.keys[]":       {"id"},
	"trusted_issuers[]":   {"issuer", "audiences", "algorithms"},
	"tests[]":             {"request", "expect"},
}

func (s schema) section(v reflect.Value, key string) object {
	properties := object{}
	for name, i := range fieldsOf(v.Type()) {
		at := join(key, name)
		p := s.value(v.Field(i), at)
		if d := s.descriptions[at]; d != "" {
			p["description"] = d
		}
		for _, u := range unavailable {
			if u.key == at && u.when == nil {
				p["description"] = "Not available yet. " + s.descriptions[at]
			}
		}
		properties[name] = p
	}
	o := object{"type": "object", "properties": properties, "additionalProperties": false}
	if r := requiredKeys[key]; r != nil {
		o["required"] = r
	}
	return o
}

// variable matches a scalar that is taken from the environment.
var variable = object{"type": "string", "pattern": `\$\{`}

func orVariable(o object) object { return object{"anyOf": []object{o, variable}} }

func (s schema) value(v reflect.Value, key string) object {
	switch t := v.Type(); {
	case t == accessType:
		return s.access(v, key)
	case t == upstreamType:
		list := s.section(reflect.ValueOf(defaultUpstream()), key+"[]")
		return object{"anyOf": []object{{"type": "string"}, {"type": "array", "minItems": 1, "items": list}}}
	case t == prefixType:
		return object{"type": "string"}
	case t == durationType:
		return object{"anyOf": []object{
			{"type": "string", "pattern": `^([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+$|\$\{`},
			{"const": 0},
		}, "default": spell(time.Duration(v.Int()))}
	case t.Kind() == reflect.Pointer:
		return s.section(reflect.New(t.Elem()).Elem(), key)
	case t.Kind() == reflect.Struct:
		return s.section(v, key)
	case t.Kind() == reflect.Slice:
		return s.list(v, key)
	case t.Kind() == reflect.Map:
		item := object{"type": "string"}
		if t.Elem() == anyType {
			item = object{"type": []string{"string", "number", "boolean"}}
		}
		if t.Elem() == anyType && strings.HasPrefix(key, "tests[]") {
			item = object{"type": []string{"string", "number", "boolean", "array"}}
		}
		return object{"type": "object", "additionalProperties": item}
	case t.Kind() == reflect.Bool:
		o := orVariable(object{"type": "boolean"})
		o["default"] = v.Bool()
		return o
	case t.Kind() == reflect.Int || t.Kind() == reflect.Int64:
		o := orVariable(object{"type": "integer", "minimum": 0})
		o["default"] = v.Int()
		return o
	}
	o := object{"type": "string"}
	if words := enums[key]; words != nil {
		o = orVariable(object{"enum": words})
	}
	if v.String() != "" && v.Type() != secretType {
		o["default"] = v.String()
	}
	return o
}

func (s schema) list(v reflect.Value, key string) object {
	items := s.value(newElement(v.Type().Elem()), key+"[]")
	o := object{"type": "array", "items": items}
	if v.Len() > 0 {
		o["default"] = v.Interface() // lists of words only
	}
	return o
}

func (s schema) access(v reflect.Value, key string) object {
	rule := s.section(v, key)
	rule["minProperties"] = 1
	words := orVariable(object{"enum": []string{AccessPublic, AccessOptional, AccessAuthenticated}})
	return object{"anyOf": []object{words, rule}, "default": AccessAuthenticated}
}
