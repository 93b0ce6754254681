package config

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// reference.yaml is what users read and defaults is what they get.
func TestReferenceIsTheDefaults(t *testing.T) {
	d := newDecoder("reference.yaml", nil)
	got := defaults()
	d.decode(d.document(reference), "", reflect.ValueOf(got).Elem())
	if len(d.problems) > 0 {
		t.Fatal(d.sorted())
	}
	want := defaults()
	want.Tokens.Issuer = ""
	want.Tokens.Keys = []Key{{}}
	issuer := defaultTrustedIssuer()
	want.TrustedIssuers = []TrustedIssuer{issuer}
	rt, other := defaultRoute(), defaultRoute()
	rt.Upstream, other.Upstream = []Upstream{defaultUpstream()}, []Upstream{defaultUpstream()}
	other.Access = Access{Kind: AccessRestricted}
	want.Routes = []Route{rt, other}
	want.Tests = []Test{{As: &Subject{}}}
	got.PublicURL, want.PublicURL = strings.TrimSuffix(got.PublicURL, "/"), defaultPublicURL

	// An empty list in the file and a list that is left out are the same here.
	g, err := json.Marshal(plain(reflect.ValueOf(*got)))
	must(t, err)
	w, err := json.Marshal(plain(reflect.ValueOf(*want)))
	must(t, err)
	if string(g) != string(w) {
		t.Errorf("reference.yaml says\n%s\nthe code says\n%s", g, w)
	}
}

// plain is the exported part of a value with empty lists and maps left out.
func plain(v reflect.Value) any {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return plain(v.Elem())
	case reflect.Struct:
		m := map[string]any{}
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && f.Name != "Pos" {
				m[f.Name] = plain(v.Field(i))
			}
		}
		return m
	case reflect.Slice:
		var list []any
		for i := range v.Len() {
			list = append(list, plain(v.Index(i)))
		}
		return list
	case reflect.Map:
		if v.Len() == 0 {
			return nil
		}
	}
	return v.Interface()
}

// Whoever adds a key documents it.
func TestReferenceHasEveryKey(t *testing.T) {
	found := descriptions()
	walkKeys(reflect.TypeFor[Config](), "", func(key string, _ reflect.Type) {
		if found[key] == "" {
			t.Errorf("reference.yaml has no comment on %q", key)
		}
		delete(found, key)
	})
	for key := range found {
		if !strings.HasSuffix(key, "]") {
			t.Errorf("reference.yaml has %q, which the code does not know", key)
		}
	}
}

func TestSchema(t *testing.T) {
	var s map[string]any
	must(t, json.Unmarshal(Schema(), &s))
	at := func(path ...string) any {
		t.Helper()
		var v any = s
		for _, p := range path {
			m, ok := v.(map[string]any)
			if !ok || m[p] == nil {
				t.Fatalf("the schema has no %v", path)
			}
			v = m[p]
		}
		return v
	}
	equal(t, "$schema", at("$schema"), any("https://json-schema.org/draft/2020-12/schema"))
	equal(t, "required", at("required"), any([]any{"routes"}))
	equal(t, "additionalProperties", at("additionalProperties"), any(false))
	equal(t, "additionalProperties of routes", at("properties", "routes", "items", "additionalProperties"), any(false))
	equal(t, "default of timeout", at("properties", "routes", "items", "properties", "timeout", "default"), any("1m"))
	equal(t, "description of level", at("properties", "log", "properties", "level", "description"), any("debug, info, warn or error."))
	equal(t, "default of at_root", at("properties", "endpoints", "properties", "at_root", "default"), any([]any{"login", "register", "logout", "well-known"}))
	equal(t, "description of acme", at("properties", "tls", "properties", "acme", "description"),
		any("Not available yet. Certificates from an ACME server (RFC 8555)."))
	enum := at("properties", "users", "properties", "registration", "anyOf").([]any)[0].(map[string]any)["enum"]
	equal(t, "enum of registration", enum, any([]any{"open", "closed"}))
	access := at("properties", "routes", "items", "properties", "access", "anyOf").([]any)[1].(map[string]any)
	if access["properties"].(map[string]any)["roles"].(map[string]any)["description"] != "Any one of them." {
		t.Errorf("schema of access = %v, want its keys described", access)
	}
	if first, second := Schema(), Schema(); string(first) != string(second) {
		t.Error("Schema differs from call to call")
	}
	if strings.Contains(string(Schema()), "redacted") {
		t.Error("the schema has a secret's default")
	}
	var described func(v any, path string)
	described = func(v any, path string) {
		m, _ := v.(map[string]any)
		properties, _ := m["properties"].(map[string]any)
		for name, p := range properties {
			if p.(map[string]any)["description"] == nil {
				t.Errorf("%s.%s has no description", path, name)
			}
			described(p, path+"."+name)
		}
		if m["items"] != nil {
			described(m["items"], path+"[]")
		}
		anyOf, _ := m["anyOf"].([]any)
		for _, o := range anyOf {
			described(o, path)
		}
	}
	described(s, "")
}
