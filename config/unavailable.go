package config

import (
	"fmt"
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

func (v *validator) refuseUnavailable() {
	for _, u := range unavailable {
		v.each(u.key, func(key string) {
			if u.when != nil && !u.when(v.c, key) {
				return
			}
			name := u.name
			if name == "" {
				name = key
			}
			v.report(v.c.At(key), fmt.Sprintf("%q is not available yet", name), "")
			v.failed[key] = true
		})
	}
}
