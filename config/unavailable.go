package config

import (
	"fmt"
	"regexp"
	"strings"
)

// unavailable lists what the file format knows and this version does not do
// yet. Such a key is refused, because a setting that is silently ignored is
// one that somebody relies on. In a key, "[]" stands for any item.
var unavailable = []struct {
	key  string
	when func(c *Config, key string) bool // nil: whenever the file has the key
	name string                           // what is refused; "" is the key
}{
	{key: "tls.acme"},
	{key: "routes[].load_balance"},
	{key: "routes[].upstream[]", when: func(_ *Config, key string) bool { return !strings.HasSuffix(key, "[0]") }},
	{key: "routes[].upstream[].weight"},
}

var itemNumber = regexp.MustCompile(`\[[0-9]+\]`)

func (v *validator) refuseUnavailable() {
	for key := range v.positions {
		general := itemNumber.ReplaceAllString(key, "[]")
		for _, u := range unavailable {
			if u.key != general || u.when != nil && !u.when(v.c, key) {
				continue
			}
			name := u.name
			if name == "" {
				name = key
			}
			v.report(v.positions[key], fmt.Sprintf("%q is not available yet", name), "")
			v.failed[key] = true
		}
	}
}
